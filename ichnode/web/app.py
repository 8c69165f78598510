"""The HTTP side of the node: pages for people, and what machines read. The routes are in the files beside this one."""

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware

from ichnode.web.actions import action_routes
from ichnode.web.api import api_routes
from ichnode.web.guard import Guard
from ichnode.web.health_page import health_routes
from ichnode.web.judgement import judgement_routes
from ichnode.web.live import live_route
from ichnode.web.pages import Pages, static_route
from ichnode.web.parts import WebParts
from ichnode.web.review import review_routes
from ichnode.web.rules_page import rules_routes
from ichnode.web.worklist import worklist_routes


def create_app(parts: WebParts) -> Starlette:
    """The application."""
    pages = Pages(parts)
    return Starlette(
        routes=[
            *worklist_routes(parts, pages),
            *action_routes(parts, pages),
            *rules_routes(parts, pages),
            *health_routes(parts, pages),
            *judgement_routes(parts, pages),
            *review_routes(parts, pages),
            live_route(parts),
            *api_routes(parts),
            static_route(),
        ],
        middleware=[Middleware(Guard, credentials=parts.credentials, tls=parts.tls)],
        exception_handlers={404: pages.not_found, SQLAlchemyError: pages.no_ledger},
    )
