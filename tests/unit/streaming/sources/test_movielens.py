"""MovieLens's tables in the contract's words."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from feature_repo.contract.validation import Contract, Event, Item, Record
from feature_repo.errors import ContractError, SourceError
from feature_repo.settings import Settings, with_registered
from streaming.sources import InputFile
from streaming.sources.formats.movielens import MovieLensSource

RATING = {"userId": "1", "movieId": "3", "rating": "4.0", "timestamp": "964981247"}


@pytest.fixture
def parse(settings: Settings, clock: Any) -> Any:
    source = MovieLensSource()
    contract = Contract(with_registered(settings, source.event_types), clock)

    def parsed(row: dict[str, str]) -> Record:
        return contract.parse(source.convert(row, None))

    return parsed


@pytest.mark.parametrize(
    ("stars", "kind"), [("5.0", "like"), ("4", "like"), ("3.5", "view"), ("0.5", "view")]
)
def test_four_stars_are_a_like(parse: Any, stars: str, kind: str) -> None:
    event = parse({**RATING, "rating": stars})
    assert isinstance(event, Event)
    assert (event.event_type, event.properties) == (kind, {"rating": stars})
    assert (event.user_id, event.item_id, event.session_id) == ("1", "3", "1:2000-07-30")
    assert event.event_time.isoformat() == "2000-07-30T18:20:47+00:00"


def test_a_movie_has_genres_and_a_year(parse: Any) -> None:
    movie = parse({"movieId": "1", "title": "Toy Story (1995)", "genres": "Adventure|Comedy"})
    assert isinstance(movie, Item)
    assert (movie.title, movie.categories) == ("Toy Story (1995)", ("Adventure", "Comedy"))
    assert movie.created_at is not None
    assert movie.created_at.isoformat() == "1995-01-01T00:00:00+00:00"


@pytest.mark.parametrize("title", ["Babylon 5", "Death Note: Desu nôto (2006–2007)", "Nothing (0000)"])
def test_a_movie_may_have_neither(parse: Any, title: str) -> None:
    movie = parse({"movieId": "1", "title": title, "genres": "(no genres listed)"})
    assert (movie.categories, movie.created_at) == ((), None)


def test_a_tag_is_an_event_of_its_own_type(parse: Any) -> None:
    tag = parse({"userId": "2", "movieId": "60756", "tag": "funny", "timestamp": "1445714994"})
    assert (tag.event_type, tag.properties) == ("tag", {"tag": "funny"})


def test_ids_tell_rows_apart(parse: Any) -> None:
    rows = [RATING, {**RATING, "movieId": "4"}, {**RATING, "userId": "2"}, {**RATING, "timestamp": "1"}]
    source = MovieLensSource()
    ids = [source.convert(row, None)["event_id"] for row in rows]  # type: ignore[index]
    assert len(set(ids)) == 4
    assert ids[0] == source.convert(dict(RATING), None)["event_id"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rating": "good"}, "rating: 'good' is no number of stars"),
        ({"rating": ""}, "rating: required and absent"),
        ({"timestamp": "9999999999999"}, "is no time in epoch seconds"),
        ({"movieId": ""}, "movieId: required and absent"),
    ],
)
def test_a_row_that_is_wrong_says_how(changed: dict[str, str], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        MovieLensSource().convert({**RATING, **changed}, None)


def test_a_folder_gives_movies_first_and_leaves_links_out(tmp_path: Path) -> None:
    for name in ("links", "movies", "ratings", "tags"):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(b"x"))
    names = [f.path.name for f in MovieLensSource().files(InputFile(tmp_path))]
    assert names == ["movies.csv.gz", "ratings.csv.gz", "tags.csv.gz"]


def test_a_folder_of_something_else_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no movies\.csv, ratings\.csv or tags\.csv"):
        MovieLensSource().files(InputFile(tmp_path))


def test_links_are_refused_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("movieId,imdbId,tmdbId\n1,2,3\n")
    with pytest.raises(
        SourceError, match=r"links\.csv: columns movieId, imdbId, tmdbId are of no table read here"
    ):
        list(MovieLensSource().rows(InputFile(tmp_path / "links.csv"), None))
