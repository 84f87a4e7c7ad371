"""The notifier against a real SMTP server and real HTTP servers, through Airflow's own providers."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.notifications.hybrid import HybridNotifier
from tests.fleets import release_of, rollout
from tests.servers import free_port

NEW = release_of(16)
RUN = {"dag_id": "hybrid_deploy", "run_id": "manual__2026-11-24", "task_id": "deploy"}


@pytest.fixture
def posted(monkeypatch):
    """What was posted to a server that stands for Slack and for a webhook; a path /broken answers 500."""
    found = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.append((self.path, json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        hook = {"conn_type": "http", "host": base}
        slack = {"conn_type": "slackwebhook", "host": base, "password": f"{base}/services/T0/B0/XXX"}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(hook))
        monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps(slack))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/site/")
        yield found
        server.shutdown()


@pytest.fixture
def mailbox(monkeypatch):
    """What a real SMTP server took."""
    from aiosmtpd.controller import Controller

    found = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
            found.append(envelope)
            return "250 OK"

    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": controller.port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(connection))
    yield found
    controller.stop()


def context(**changed):
    """Of a callback of a deploy task, whose rollout left this row."""
    row = rollout(NEW, [["a", "b"]], {"a": "SUCCEEDED", "b": "REVERTED"}, state="PAUSED")
    return {
        "ti": SimpleNamespace(**RUN),
        "task": SimpleNamespace(model_name="digits"),
        "asset_state_store": {model_asset("digits"): {"rollout": row}},
        "exception": RuntimeError("b: the probe answered 500"),
        **changed,
    }


def test_a_failed_rollout_is_told_to_slack_by_mail_and_to_a_webhook(posted, mailbox):
    HybridNotifier(
        slack_conn_id="slack",
        email_to="ops@example.com",
        smtp_conn_id="mail",
        webhook_conn_id="hook",
        webhook_endpoint="news",
    )(context())

    said = dict(posted)
    title = f"digits: deploy of {NEW} ended as PAUSED, 1 of 2 hosts done"
    assert said["/news"]["title"] == title
    assert said["/news"]["failed"] == {"b": "REVERTED"}
    assert (
        said["/news"]["links"]["Run"]
        == "https://airflow.example/site/dags/hybrid_deploy/runs/manual__2026-11-24"
    )
    assert title in said["/services/T0/B0/XXX"]["text"]
    assert said["/services/T0/B0/XXX"]["blocks"][0]["type"] == "section"
    (mail,) = mailbox
    assert mail.rcpt_tos == ["ops@example.com"]
    assert b"ended as PAUSED" in mail.content


def test_a_task_that_fails_before_its_rollout_is_told_from_its_error(posted):
    other = rollout(NEW, [], {}, run_id="an earlier run")
    HybridNotifier(webhook_conn_id="hook")(
        context(asset_state_store={model_asset("digits"): {"rollout": other}})
    )

    ((_, payload),) = posted
    assert payload["title"] == "digits: deploy failed"
    assert payload["reason"] == "b: the probe answered 500"


def test_one_way_that_fails_keeps_no_other_from_being_tried(posted, mailbox):
    notifier = HybridNotifier(
        webhook_conn_id="hook",
        webhook_endpoint="broken",
        slack_conn_id="missing",
        email_to="ops@example.com",
        smtp_conn_id="mail",
    )

    with pytest.raises(ConfigurationError, match=r"Slack: .*; webhook: 500"):
        notifier.notify(context())
    assert len(mailbox) == 1


def test_a_deadline_is_told_from_the_triggerer_with_its_text(posted, mailbox):
    late = {"dag_run": {"dag_id": "hybrid_retrain_with_approval", "dag_run_id": "scheduled__1"}}
    notifier = HybridNotifier(
        context=late,
        text="The retrained digits is not live within 2 h",
        model_name="digits",
        webhook_conn_id="hook",
        email_to="ops@example.com",
        smtp_conn_id="mail",
    )

    async def tell():
        await notifier

    asyncio.run(tell())

    ((_, payload),) = posted
    assert payload["title"] == "The retrained digits is not live within 2 h"
    assert not payload["good"]
    assert payload["links"]["Run"].endswith("/dags/hybrid_retrain_with_approval/runs/scheduled__1")
    assert len(mailbox) == 1


def test_a_notifier_that_would_tell_nobody_is_refused_where_the_dag_is_parsed():
    with pytest.raises(ConfigurationError, match="tell nobody"):
        HybridNotifier(text="hello")
