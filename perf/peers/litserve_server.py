"""The peer LitServe: a LitAPI with its hooks, worker processes, its own batching, and its fast queue.

After LitServe's documentation; its `fast_queue` (ZeroMQ between its processes) is on, as it advises for high load.
A body of raw bytes is asked for by the type of `decode_request`'s argument, which LitServe hands to FastAPI, so this
file's annotations are evaluated.
"""

from typing import Annotated, Any

import litserve
from fastapi import Body, Response
from numpy.typing import NDArray
from pydantic import AfterValidator

from perf.peers.chains import Chain
from perf.peers.setting import Assignment
from perf.peers.wire import HOST, OCTETS

Request = dict[str, NDArray[Any]]


class Octets(bytes):
    """A body that is not spelt out: LitServe formats each request for a log line that nobody sees.

    For a picture of 1.8 MB that cost its front end 30 ms a request, as much as the network.
    """

    def __repr__(self) -> str:
        return f"{len(self)} bytes"

    __str__ = __repr__


OctetBody = Annotated[bytes, Body(media_type=OCTETS), AfterValidator(Octets)]


class ChainAPI(litserve.LitAPI):
    """One chain behind LitServe's hooks; `predict` gets one request, or a list of them where there are batches."""

    def setup(self, device: str) -> None:
        """Load the chain in a worker process."""
        self.chain = Chain.assigned()

    def decode_request(self, request: OctetBody) -> Request:
        """A plain body to tensors."""
        return self.chain.workload.unpack(request)

    def batch(self, inputs: list[Request]) -> list[Request]:
        """The chain stacks requests by itself."""
        return inputs

    def predict(self, inputs: Request | list[Request]) -> Request | list[Request]:
        """Answer one request, or several together."""
        return self.chain.answer(inputs) if isinstance(inputs, list) else self.chain.answer([inputs])[0]

    def unbatch(self, output: list[Request]) -> list[Request]:
        """One answer for each request."""
        return output

    def encode_response(self, output: Request) -> Response:
        """Tensors to a plain body."""
        return Response(self.chain.workload.pack_answer(output), media_type=OCTETS)


def main() -> None:
    """Serve until told to stop."""
    assignment = Assignment.from_environment()
    setting = assignment.setting
    api = ChainAPI(
        api_path=f"/{assignment.workload}", max_batch_size=setting.batch, batch_timeout=setting.delay_ms / 1000
    )
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=setting.workers, timeout=60, fast_queue=True
    )
    server.run(host=HOST, port=assignment.port, log_level="warning", generate_client_file=False, access_log=False)


if __name__ == "__main__":
    main()
