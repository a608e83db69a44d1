"""API keys: hashes in the settings, scopes, and no access without keys from other machines."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from pydantic import SecretStr

from feature_repo.errors import SettingsError
from feature_repo.settings import Settings
from serving.api.api_keys import LOCAL, Keys, Scope, is_loopback, new_key, parse_keys
from serving.schemas.errors import ApiError


@pytest.fixture
def shop_key() -> tuple[str, str]:
    return new_key("shop", [Scope.RANK, Scope.EVENTS])


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {secret}".encode())]


def test_a_new_key_opens_what_its_scopes_say(shop_key: tuple[str, str]) -> None:
    secret, entry = shop_key
    assert secret not in entry
    keys = Keys(parse_keys(entry))
    assert keys.check(bearer(secret), Scope.RANK) == "shop"
    assert keys.check([(b"x-api-key", secret.encode())], Scope.EVENTS) == "shop"
    with pytest.raises(ApiError, match="'shop' lacks the scope 'admin'") as caught:
        keys.check(bearer(secret), Scope.ADMIN)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")


@pytest.mark.parametrize("headers", [[], bearer("guess"), bearer(""), [(b"authorization", b"Basic abc")]])
def test_without_a_valid_key_nothing(shop_key: tuple[str, str], headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ApiError, match="Authorization: Bearer") as caught:
        Keys(parse_keys(shop_key[1])).check(headers, Scope.RANK)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")


def test_several_keys() -> None:
    made = [new_key(f"k{n}", [scope]) for n, scope in enumerate(Scope)]
    keys = Keys(parse_keys(", ".join(entry for _, entry in made)))
    for number, ((secret, _), scope) in enumerate(zip(made, Scope, strict=True)):
        assert keys.check(bearer(secret), scope) == f"k{number}"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("shop", "'' is not a scope"),
        (f":rank:{'0' * 64}", "needs a name"),
        (f"shop:rang:{'0' * 64}", "'rang' is not a scope (rank, events, features, admin)"),
        ("shop:rank:abc", "not a hexadecimal SHA-256"),
        (f"shop:rank:{'g' * 64}", "not a hexadecimal SHA-256"),
    ],
)
def test_a_malformed_entry_names_the_setting(entry: str, says: str) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_API_KEYS") as caught:
        parse_keys(entry)
    assert says in str(caught.value)


def test_keys_may_be_off_on_loopback_only(shop_key: tuple[str, str]) -> None:
    assert Keys.of(Settings(host="127.0.0.1")).check([], Scope.ADMIN) == LOCAL
    with pytest.raises(SettingsError, match=r"HEADRACE_HOST=0\.0\.0\.0.*needs HEADRACE_API_KEYS"):
        Keys.of(Settings(host="0.0.0.0"))
    Keys.of(Settings(host="0.0.0.0", api_keys=shop_key[1], id_salt=SecretStr("own")))


@pytest.mark.parametrize("salt", [None, "headrace", "change-me", ""])
def test_a_salt_that_everybody_knows_does_on_loopback_only(
    shop_key: tuple[str, str], salt: str | None
) -> None:
    given = {} if salt is None else {"id_salt": SecretStr(salt)}
    with pytest.raises(SettingsError, match=r"HEADRACE_HOST=0\.0\.0\.0.*a private HEADRACE_ID_SALT"):
        Keys.of(Settings(host="0.0.0.0", api_keys=shop_key[1], **given))
    Keys.of(Settings(host="127.0.0.1", api_keys=shop_key[1], **given))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("shop", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"http://[", b"http://127.0.0.1.evil.example"]
)
def test_without_keys_a_page_of_another_origin_is_refused(origin: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        Keys(()).check([(b"host", b"127.0.0.1:8080"), (b"origin", origin)], Scope.ADMIN)
    assert (caught.value.status, caught.value.code, caught.value.field) == (403, "forbidden", "origin")


@pytest.mark.parametrize("origin", [b"http://127.0.0.1:8080", b"http://localhost:8080", b"http://[::1]:8080"])
def test_without_keys_pages_of_this_machine_may_ask(origin: bytes) -> None:
    assert Keys(()).check([(b"origin", origin)], Scope.ADMIN) == LOCAL


@pytest.mark.parametrize("host", [b"evil.example:8080", b"evil.example", b"[", b""])
def test_without_keys_another_host_name_is_refused_wherever_it_points(host: bytes) -> None:
    with pytest.raises(ApiError, match=r"127\.0\.0\.1 or localhost") as caught:
        Keys(()).check([(b"host", host)], Scope.ADMIN)
    assert (caught.value.status, caught.value.field) == (403, "host")


@pytest.mark.parametrize("host", [b"127.0.0.1:8080", b"localhost", b"[::1]:8080", b"127.0.0.1"])
def test_without_keys_this_machine_may_ask_by_its_own_names(host: bytes) -> None:
    assert Keys(()).check([(b"host", host)], Scope.ADMIN) == LOCAL


@pytest.mark.parametrize("which", [0, 1, 2, None])
def test_every_key_is_compared_in_constant_time_wherever_the_right_one_stands(
    which: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare all keys with `hmac.compare_digest`: time reveals neither the key nor how close a guess is."""
    made = [new_key(f"k{n}", [Scope.RANK]) for n in range(3)]
    entries = parse_keys(",".join(entry for _, entry in made))
    compared: list[tuple[str, str]] = []

    class Digest(str):
        """A digest that only `compare_digest` may compare."""

        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            raise AssertionError(other)

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return str.__eq__(one, other)

    monkeypatch.setattr("serving.api.api_keys.hmac.compare_digest", compare)
    keys = Keys([replace(key, digest=Digest(key.digest)) for key in entries])
    secret = "a guess" if which is None else made[which][0]
    if which is None:
        with pytest.raises(ApiError):
            keys.check(bearer(secret), Scope.RANK)
    else:
        assert keys.check(bearer(secret), Scope.RANK) == f"k{which}"
    assert [str(one) for one, _ in compared] == [str(key.digest) for key in entries]
    assert {other for _, other in compared} == {sha256(secret.encode()).hexdigest()}


def test_a_secret_put_where_its_hash_belongs_is_not_shown() -> None:
    secret, _ = new_key("shop", [Scope.RANK])
    with pytest.raises(SettingsError, match="entry 1") as caught:
        parse_keys(secret)
    assert secret not in str(caught.value)


def test_a_secret_counts_only_in_its_own_header(shop_key: tuple[str, str]) -> None:
    secret, entry = shop_key
    keys = Keys(parse_keys(entry))
    for headers in (
        [(b"x-forwarded-authorization", f"Bearer {secret}".encode())],
        [(b"authorization", secret.encode())],
        [(b"authorization", f"Basic {secret}".encode())],
        [(b"cookie", secret.encode())],
    ):
        with pytest.raises(ApiError) as caught:
            keys.check(headers, Scope.RANK)
        assert caught.value.status == 401
    assert keys.check([(b"authorization", f"bearer   {secret} ".encode())], Scope.RANK) == "shop"


def test_of_several_entries_the_malformed_one_is_named(shop_key: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_API_KEYS: 'partner': 'rang' is not a scope"):
        parse_keys(f"{shop_key[1]}, partner:rang:{'0' * 64}")
    with pytest.raises(SettingsError, match="HEADRACE_API_KEYS: entry 2: '' is not a scope"):
        parse_keys(f"{shop_key[1]},, just-a-word")


def test_with_keys_a_page_of_another_origin_is_served(shop_key: tuple[str, str]) -> None:
    """With keys, the key identifies the caller, not the origin of the page."""
    secret, entry = shop_key
    headers = [(b"origin", b"https://shop.example"), (b"host", b"shop.example"), *bearer(secret)]
    assert Keys(parse_keys(entry)).check(headers, Scope.RANK) == "shop"


def test_a_hash_may_be_written_in_capitals(shop_key: tuple[str, str]) -> None:
    secret, entry = shop_key
    name, scopes, digest = entry.split(":")
    keys = Keys(parse_keys(f"{name}:{scopes}:{digest.upper()}"))
    assert keys.check(bearer(secret), Scope.RANK) == "shop"
