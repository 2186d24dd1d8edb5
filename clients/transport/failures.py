"""Why a call failed, whether it may be sent again, and our exception for it."""

from __future__ import annotations

from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from clients.errors import ClientError, ContractMismatch, ServerUnavailable, Timeout, printable

_AWAY = ("UNAVAILABLE", "CANCELLED")  # Triton cancels what it has when it stops; what we cancel, nobody waits for
_LIMITED = "RESOURCE_EXHAUSTED"  # a proxy's word for too many requests (HTTP: 429) ...
_TOO_LARGE_WORDS = "larger than max"  # ... and gRPC's for a message that no second attempt makes smaller
# Triton's words for a full queue; it uses the status of an absent server for it.
_BUSY_WORDS = ("maximum queue size", "timeout expired")
_RESTRICTED_WORDS = "is restricted, expecting header"  # of a live server, too
# OpenSSL's and gRPC's words for an end that is not trusted.
_TLS_WORDS = (
    "certificate",
    "ssl_error",
    "handshake",
    "wrong version number",
    "ssl routines",
    "[ssl:",
    "hostname verif",
)
_OTHER_CERTIFICATE = "use one that has not expired, of an authority that the server knows"
# What they say, why that is, and what to do; an alert is what the server says of this client. The first that fits.
_TLS_REASONS = (
    ("alert certificate expired", "this client's certificate has expired", "renew it"),
    ("certificate required", "the server wants a certificate of its clients", "give certificate and private key"),
    ("alert", "the server does not accept this client's certificate", _OTHER_CERTIFICATE),
    ("not accepted", "the server does not accept this client's certificate", _OTHER_CERTIFICATE),
    ("expired", "the server's certificate has expired", "renew it"),
    ("hostname", "the server's certificate is for another host", "use a name that it was made for in --url"),
    ("ip address mismatch", "the server's certificate is for another host", "use a name that it was made for in --url"),
    ("wrong version number", "the server speaks without TLS", "use grpc:// or http://, or turn TLS on at the server"),
    ("", "nobody vouches for the server's certificate", "give the root certificate of its authority"),
)


class CallFailed(Exception):  # noqa: N818  (never seen outside: it becomes one of clients.errors)
    """One call to one endpoint that gave no answer.

    Args:
        status: gRPC's name for it, such as UNAVAILABLE.
        text: what the server or the library said.
        refusal: the endpoint was reached but does not fit; this is what to tell if no other does.
    """

    def __init__(self, status: str, text: str, refusal: ClientError | None = None) -> None:
        super().__init__(status, text)
        self.status, self.text, self.refusal = status, text, refusal

    @classmethod
    def of(cls, error: InferenceServerException) -> CallFailed:
        """What tritonclient raises."""
        return cls(str(error.status() or "UNKNOWN").rsplit(".", 1)[-1], str(error.message() or ""))

    @property
    def is_answer(self) -> bool:
        """The server has read the request and is done with it."""
        return self.is_busy or self.is_restricted or self.status not in (*_AWAY, "DEADLINE_EXCEEDED", "UNKNOWN")

    @property
    def is_busy(self) -> bool:
        """A live server, or a proxy before it, turned the request away."""
        if self.status == _LIMITED:
            return _TOO_LARGE_WORDS not in self.text.lower()
        return self.status in _AWAY and any(words in self.text.lower() for words in _BUSY_WORDS)

    @property
    def is_restricted(self) -> bool:
        """The server answers this question to its administrator alone."""
        return _RESTRICTED_WORDS in self.text.lower()

    @property
    def is_untrusted(self) -> bool:
        """The two ends do not trust each other."""
        return self.status == "UNAVAILABLE" and any(words in self.text.lower() for words in _TLS_WORDS)

    @property
    def may_retry(self) -> bool:
        """Sending it again is safe and may help: the server is away, busy or stopping."""
        may_pass = self.is_busy or self.status in _AWAY
        return self.refusal is None and may_pass and not (self.is_untrusted or self.is_restricted)


@dataclass(frozen=True)
class Attempts:
    """How often a request was sent before it was given up."""

    count: int
    budget_spent: bool = False  # more would have been allowed, but for the connection's budget

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"asked {times}" + (", and too many requests were sent again lately" if self.budget_spent else "")


def explain(failure: CallFailed, *, subject: str, url: str, timeout_s: float, attempts: Attempts) -> ClientError:
    """Our exception for a failure that stays."""
    if failure.refusal is not None:
        return failure.refusal
    text = printable(failure.text or failure.status).rstrip(".")
    if failure.status == "DEADLINE_EXCEEDED":
        return Timeout(
            f"{subject} gave no answer within {timeout_s:g} s",
            "an answer within the deadline",
            f"the server at {url} is overloaded, stuck or slow",
            "try again, raise --timeout, or look at the server's log",
        )
    if failure.is_busy:
        return ServerUnavailable(
            f"The server at {url} is too busy: {text}",
            "a place in its queue",
            f"{subject} was {attempts}",
            "try again later, or send fewer requests at once",
        )
    if failure.is_restricted:  # only the models' states are asked for, and only where one is not ready
        return ServerUnavailable(
            f"{subject} at {url} is not ready, or not there: the server does not tell which ({text})",
            "every model ready",
            "it cannot answer",
            "wait until it has loaded, or ask who runs the server",
        )
    if failure.is_untrusted:
        return _untrusted(url, text)
    if failure.status in _AWAY:
        return ServerUnavailable(
            f"No server answers at {url}: {text}",
            "a running Triton with its gRPC front end there (or HTTP, for http://)",
            f"every answer comes from it; it was {attempts}",
            "start it with `avedge serve`, or give its address with --url",
        )
    return ContractMismatch(
        f"{subject} at {url} refused the request ({failure.status}): {text}",
        "an answer",
        "server and clients do not agree, or the server is broken",
        "serve the models exported by this version of avedge, and look at the server's log",
    )


def _untrusted(url: str, text: str) -> ServerUnavailable:
    """TLS failed; as far as the words of the library tell, why."""
    said = text.lower().replace("_", " ")
    why, remedy = next((why, remedy) for words, why, remedy in _TLS_REASONS if words in said)
    return ServerUnavailable(
        f"The server at {url} and this client do not trust each other: {text}",
        "certificates that both trust",
        why,
        remedy,
    )
