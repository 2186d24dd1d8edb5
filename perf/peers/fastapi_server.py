"""The peer without a serving framework: FastAPI and uvicorn, torch eager in a thread.

After FastAPI's documentation: the model is loaded in the lifespan, the body is read as bytes, blocking work goes to
AnyIO's threads (FastAPI's own way for `def` endpoints) behind a limit. Several workers are several single-process
servers, as its page on containers advises: `--workers` shares one socket, whose persistent connections mostly went
to one of two workers. Requests are not batched: FastAPI has nothing for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from fastapi import FastAPI, Request, Response

from perf.peers.chains import Chain
from perf.peers.setting import Assignment
from perf.peers.wire import HOST, OCTETS


def create_app(assignment: Assignment) -> FastAPI:
    """The application of one worker."""
    chains: list[Chain] = []
    limits: list[anyio.CapacityLimiter] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chains.append(Chain.assigned())
        limits.append(anyio.CapacityLimiter(assignment.setting.slots))
        yield

    def infer(body: bytes) -> bytes:
        (chain,) = chains
        (answer,) = chain.answer([chain.workload.unpack(body)])
        return chain.workload.pack_answer(answer)

    async def endpoint(request: Request) -> Response:
        answer = await anyio.to_thread.run_sync(infer, await request.body(), limiter=limits[0])
        return Response(answer, media_type=OCTETS)

    async def health() -> Response:
        return Response()

    app = FastAPI(lifespan=lifespan)
    app.post(f"/{assignment.workload}", response_class=Response)(endpoint)
    app.get("/health", response_class=Response)(health)
    return app


def main() -> None:
    """Serve until told to stop."""
    assignment = Assignment.from_environment()
    uvicorn.run(create_app(assignment), host=HOST, port=assignment.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
