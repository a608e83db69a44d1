"""Synonyms of fields and event types in other people's files."""

from __future__ import annotations

import re

ROLES: dict[str, str] = {
    "event_time": (
        "event_time timestamp ts time datetime date_time event_timestamp occurred_at event_date "
        "created_at date "
        "server_time client_time logged_at collector_tstamp tstamp sent_at received_at zeit zeitstempel datum"
    ),
    "event_type": (
        "event_type event action event_name interaction activity behavior behaviour verb type operation "
        "action_type interaction_type aktion ereignis"
    ),
    "session_id": "session_id session sid visit_id visit user_session session_key sessionid sitzung",
    "user_id": (
        "user_id user uid userid customer_id customer visitor_id visitor visitorid person_id person "
        "client_id "
        "client member_id member account_id account distinct_id buyer_id buyer shopper kunde "
        "kunden_id kundennr"
    ),
    "item_id": (
        "item_id item itemid product_id product productid sku article_id article content_id content movie_id "
        "asin aid track_id song_id book_id listing_id offer_id goods_id variant_id doc_id "
        "document_id artikel "
        "artikel_id artikelnr"
    ),
    "event_id": "event_id uuid message_id insert_id id row_id guid",
    "query": "query search_query search_term search_terms keywords keyword q suchbegriff",
    "position": "position rank slot pos",
    "request_id": "request_id impression_id recommendation_id",
    "consent": "consent opt_in personalization personalisation",
    "price": "price unit_price item_price product_price preis cost",
    "title": "title name product_name item_name product_title item_title titel bezeichnung",
    "categories": (
        "categories category genres genre category_code category_name product_category "
        "item_category department "
        "kategorie warengruppe"
    ),
    "created_at": "created_at release_date released_at published_at publish_date launched_at launch_date",
}
TYPES: dict[str, str] = {
    "view": (
        "view views viewed page_view pageview product_viewed product_view view_item item_view view_product "
        "detail visit read open watch watched play played ansicht impression_view show_item"
    ),
    "click": "click clicks clicked select select_item item_click product_clicked tap list_click klick",
    "like": "like likes liked favorite favourite upvote thumbs_up gefaellt",
    "add_to_cart": (
        "add_to_cart addtocart cart carts basket add_to_basket add_cart cart_add product_added added_to_cart "
        "warenkorb"
    ),
    "purchase": (
        "purchase purchased purchases buy bought order orders ordered transaction transactions "
        "order_completed "
        "sale paid checkout_completed conversion kauf bestellung"
    ),
    "search": "search searched searches products_searched product_searched view_search_results suche",
}
OWN_WEIGHTS: dict[str, float] = {
    "wishlist": 2,
    "bookmark": 2,
    "save": 2,
    "rate": 2,
    "download": 2,
    "share": 3,
    "comment": 3,
    "follow": 3,
    "review": 3,
    "subscribe": 4,
}
NO_ENGAGEMENT = re.compile(
    r"^(un\w+|dis\w+|.*remove.*|.*delete.*|.*cancel.*|.*refund.*|.*return.*|log(in|out)|sign_?(in|up|out)|.*scroll|"
    r".*heartbeat.*|.*ping|session_\w+|first_visit|user_engagement|app_\w+|error|identify|\$.*)$"
)
PERSONAL = re.compile(
    r"(^|_)(e_?mail|phone|tel|mobile_number|ip|ip_address|first_?name|last_?name|full_?name|street|address|birth\w*|"
    r"dob|ssn|iban|card_number|password|token|lat|lon|lng|latitude|longitude)(_|$)"
)
PERSONAL_VALUE = re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}|(?:\d{1,3}\.){3}\d{1,3}", re.IGNORECASE)


_OF_IDS = frozenset(
    ["id", "ids", "nr", "no", "num", "number", "key", "code", "uuid", "guid", "ref", "hash", "fk", "pk", "sk"]
)
"""Words that make a name an id beside the thing's name: ``customer_no`` is one, ``user_agent`` is not."""


_LONG = 3
"""Minimum length of a word that counts inside a longer name, because ``q`` occurs in many."""


def normalized(name: str) -> str:
    """Return a name in lower case with ``_`` between words: ``userId`` and ``User ID`` give ``user_id``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^0-9a-z$]+", "_", words.lower()).strip("_")


def likeness(path: str, role: str) -> float:
    """Score how much a column's name resembles a role: 0 to 3; earlier synonyms score slightly higher."""
    words = ROLES[role].split()
    names = {normalized(path), normalized(path.rsplit(".", 1)[-1])}
    for place, word in enumerate(words):
        if word in names or word.replace("_", "") in names:
            return 3 - place / 1000
    long = {word for word in words if "_" not in word and len(word) >= _LONG}
    for name in names:
        parts = set(name.split("_"))
        if parts & long and (not role.endswith("_id") or parts - long <= _OF_IDS):
            return 1.5
    return 0


def event_type_of(value: str) -> tuple[str | None, float | None, bool]:
    """Find the event type for a source's event name.

    Returns:
        the type (`None`: left out), its weight if it is not built in, and whether the match is sure.
    """
    name = normalized(value)
    for known, words in TYPES.items():
        if name in words.split():
            return known, None, True
    for own, weight in OWN_WEIGHTS.items():
        if own in name.split("_") or name.startswith(own):
            return own, weight, True
    if NO_ENGAGEMENT.match(name) or name == "impression":
        return None, None, True
    slug = re.sub(r"[^a-z0-9_]", "_", name)[:64]
    return (slug if slug[:1].isalpha() else f"type_{slug}"[:64]), 1, False
