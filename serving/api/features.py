"""`POST /v1/features`: online features of many entities, in the format of Feast's ``get-online-features``."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from serving.api.api_keys import Keys, Scope
from serving.api.asgi import ClientGone, Receive, Send, arrived, read_body, respond, respond_error
from serving.api.asgi import Scope as AsgiScope
from serving.features.feature_plan import Catalogue, PlannedView
from serving.features.feature_table import FeatureTable
from serving.schemas.errors import ApiError
from serving.schemas.rank_request import Id, invalid_body

if TYPE_CHECKING:
    from feature_repo.settings import Settings
    from serving.monitoring.metrics import Metrics


class FeaturesRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The features wanted, and the entities to read them for."""

    entities: Annotated[
        dict[str, list[Id | int]],
        Meta(description="Entity keys by join key (user_id, item_id, session_id, segment); equal lengths."),
    ]
    feature_service: Annotated[
        str | None, Meta(description="A published feature service, such as ranking_v1.")
    ] = None
    features: Annotated[list[str], Meta(description="Features as view:feature, instead of a service.")] = []
    full_feature_names: Annotated[bool, Meta(description="Name features view__feature.")] = False


class FeaturesRoute:
    """Checks the key, decodes, reads, encodes."""

    def __init__(
        self, table: FeatureTable, catalogue: Catalogue, keys: Keys, metrics: Metrics, settings: Settings
    ) -> None:
        self._table = table
        self._catalogue = catalogue
        self._keys = keys
        self._metrics = metrics
        self._max_body = settings.max_body_bytes
        self._max_values = settings.max_feature_values
        self._budget_s = settings.features_budget_ms / 1000
        self._decoder = msgspec.json.Decoder(FeaturesRequest)
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        try:
            self._keys.check(scope["headers"], Scope.FEATURES)
            body = await read_body(scope, receive, self._max_body)
            request = self._decode(body)
            plan = self._catalogue.plan(request.feature_service, request.features, request.full_feature_names)
            entities = self._entities(request, plan)
            answer = await self._table.read(plan, entities, self._budget_s)
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        await respond(send, 200, self._encoder.encode(answer))
        self._metrics.features_ms.observe((perf_counter() - arrived(scope)) * 1000)

    def _decode(self, body: bytes) -> FeaturesRequest:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            example = '{"features": ["item_profile:ctr"], "entities": {"item_id": ["i1"]}}'
            raise invalid_body(error, {"": FeaturesRequest}, example) from error

    def _entities(self, request: FeaturesRequest, plan: tuple[PlannedView, ...]) -> dict[str, list[str]]:
        """Return the entity keys as text, by join key.

        Raises:
            ApiError: 422, a join key is missing or unknown, lengths differ, or the request is too large.
        """
        needed = dict.fromkeys(view.group.entity.join_key for view in plan)
        for name in needed:
            if name not in request.entities:
                message = f"entities.{name}: missing; the requested features need {', '.join(needed)}"
                raise ApiError(422, "missing_field", f"entities.{name}", message)
        for name in request.entities:
            if name not in needed:
                message = f"entities.{name[:60]}: no requested feature uses this join key; leave it out"
                raise ApiError(422, "unknown_field", "entities", message)
        lengths = {name: len(keys) for name, keys in request.entities.items()}
        if len(set(lengths.values())) > 1:
            message = (
                f"entities: the lists differ in length ({lengths}); give one key per entity in each list"
            )
            raise ApiError(422, "bad_value", "entities", message)
        count = max(lengths.values(), default=0)
        values = count * sum(len(view.features) for view in plan)
        if values > self._max_values:
            message = (
                f"entities: {count} with {values // count} features each are {values} values; a request "
                f"may ask for {self._max_values} (HEADRACE_MAX_FEATURE_VALUES): split it"
            )
            raise ApiError(422, "too_many_values", "entities", message)
        return {name: list(map(str, keys)) for name, keys in request.entities.items()}
