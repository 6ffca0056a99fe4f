"""`blpo serve`: a judge behind HTTP."""

from __future__ import annotations

import os
import socket

from blpo_dspy.cli.begin import load_judge, note_offline
from blpo_dspy.cli.groups import Escalation
from blpo_dspy.cli.jobs import ServeJob
from blpo_dspy.cli.judging.escalation import connected, names_by_role
from blpo_dspy.cli.screen import Screen, models_line
from blpo_dspy.errors import BlpoError

TOKEN = "BLPO_TOKEN"
_GRACE = 600  # seconds that a stop waits for requests under way; each has a limit of its own


def serve(job: ServeJob, screen: Screen) -> None:
    """Serves a judge until it is stopped by Ctrl-C or SIGTERM; what is under way is finished first.

    Raises:
        BlpoError: If the judge cannot be loaded, the extra is not installed, or the address needs a token or is taken.
    """
    judge = load_judge(job.judge, job.program)
    try:
        import uvicorn  # noqa: PLC0415 - of an extra

        from blpo_dspy.serving.app import JudgeServer, Limits  # noqa: PLC0415
        from blpo_dspy.serving.web import is_loopback  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BlpoError(f"{error.name} is not installed; pip install 'blpo-dspy[serve]'") from error
    host, port, names = job.host, job.port, job.models
    token = os.environ.get(TOKEN) or None
    if token is None and not is_loopback(host):
        raise BlpoError(
            f"--host {host} is reached from other machines: set the environment variable {TOKEN} to a secret that "
            "requests have to state, or serve on 127.0.0.1"
        )
    escalation = Escalation(escalate_model=job.escalate_model)
    models = connected(judge, names, escalation)
    note_offline(names, screen, "model")
    limits = Limits(job.shared.threads or Limits.threads, job.queue, job.request_timeout, job.max_body)
    server = JudgeServer(judge, models, limits, token=token, allow_urls=job.allow_urls)
    config = uvicorn.Config(server.app, log_level="warning", timeout_graceful_shutdown=_GRACE, access_log=False)
    with listening(host, port) as opened:
        screen.text(f"Judge   {job.judge} with {models_line(names_by_role(names, escalation))}")
        screen.text(f"Serving http://{host}:{port}/ (POST /judge, /health, /metrics); Ctrl-C stops it")
        uvicorn.Server(config).run(sockets=[opened])


def listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        BlpoError: If the port is taken, or the address is not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or error
        raise BlpoError(f"{host}:{port} cannot be listened on ({reason}); choose another --port or --host") from error
