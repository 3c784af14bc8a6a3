"""Requests as handlers get them, of people who signed in or did not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import gradio as gr
from starlette.requests import Request

from studio.access.sessions import Person
from studio.access.signin import SESSION
from studio.core import Core

T = TypeVar("T")


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives. In a thread of its own: a browser keeps a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def request_of(
    core: Core | None = None,
    name: str | None = None,
    *,
    client: str = "127.0.0.1",
    http_version: str = "1.1",
    **headers: str,
) -> gr.Request:
    """A request from this machine, of `name` if it is given. `headers`: x_real_ip="…" and the like."""
    given = {"host": "127.0.0.1:7860"} | {key.replace("_", "-"): value for key, value in headers.items()}
    if core is not None and name:
        given["cookie"] = f"{SESSION}={core.signin.begin(Person(name))}"
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "http_version": http_version,
        "client": (client, 50_000),
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }
    return gr.Request(Request(scope))
