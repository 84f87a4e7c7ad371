"""A notifier for the tasks that move a fleet, and for deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from airflow.sdk import BaseNotifier, conf

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.fleet.rows import ROLLOUT_KEY
from hybrid_provider.fleet.state import StateRows
from hybrid_provider.notifications.message import Message, of_rollout, of_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context


class HybridNotifier(BaseNotifier):
    """Say how a rollout ended, to Slack, by e-mail and to a webhook: to each that is given.

    As ``on_success_callback`` or ``on_failure_callback`` of a task that moves a fleet, it says which release
    is on how many hosts, which hosts failed and why, with links to the run and to the page of the fleet. As
    the callback of a ``DeadlineAlert`` it says ``text``.

    Each way goes through the notifier of Airflow's own provider, which must be installed.

    Args:
        text: What to say instead of the title that a rollout has; needed for a deadline. Templated.
        slack_conn_id: A ``slackwebhook`` connection (apache-airflow-providers-slack).
        email_to: Who gets an e-mail (apache-airflow-providers-smtp). Templated.
        smtp_conn_id: Of the server; the provider's default where None.
        webhook_conn_id: An ``http`` connection that takes a POST of JSON (apache-airflow-providers-http).
        webhook_endpoint: A path after the connection's. Templated.
        model_name: Named by a message that no rollout is behind; the task's own where None.
        kwargs: Of ``BaseNotifier``.
    """

    template_fields: Sequence[str] = ("text", "email_to", "webhook_endpoint")

    def __init__(
        self,
        *,
        text: str | None = None,
        slack_conn_id: str | None = None,
        email_to: str | list[str] | None = None,
        smtp_conn_id: str | None = None,
        webhook_conn_id: str | None = None,
        webhook_endpoint: str | None = None,
        model_name: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseNotifier's own arguments
    ) -> None:
        super().__init__(**kwargs)
        if not (slack_conn_id or email_to or webhook_conn_id):
            raise ConfigurationError(
                "HybridNotifier would tell nobody; give slack_conn_id, email_to or webhook_conn_id"
            )
        self.text = text
        self.slack_conn_id = slack_conn_id
        self.email_to = email_to
        self.smtp_conn_id = smtp_conn_id
        self.webhook_conn_id = webhook_conn_id
        self.webhook_endpoint = webhook_endpoint
        self.model_name = model_name

    def notify(self, context: Context) -> None:
        """Tell everyone; one way that fails keeps no other from being tried."""
        faults = []
        for name, notifier in self._ways(self.message(context)):
            try:
                notifier.notify(context)
            except Exception as error:  # noqa: BLE001 - whatever a provider raises
                faults.append(f"{name}: {error}")
        _raise_if_any(faults)

    async def async_notify(self, context: Context) -> None:
        """As :meth:`notify`, in the triggerer, for deadlines."""
        faults = []
        for name, notifier in self._ways(self.message(context)):
            try:
                await notifier.async_notify(context)
            except Exception as error:  # noqa: BLE001 - whatever a provider raises
                faults.append(f"{name}: {error}")
        _raise_if_any(faults)

    def message(self, context: Context) -> Message:
        """What is said."""
        run = cast("Mapping[str, Any]", context)
        ti = run.get("ti")
        model = self.model_name or getattr(run.get("task"), "model_name", None)
        facts = {"model": model, **_where(run)}
        error = run.get("exception")
        reason = str(error) if error else ""
        row = StateRows(context, model).get(ROLLOUT_KEY) if ti is not None and model else None
        links = _links(facts)
        if row is not None and _same_task(row, facts):
            told = of_rollout(row, reason, links)
        elif ti is None:
            # A deadline: Airflow knows only that it has passed.
            told = of_task(facts, "is late", "", links)
        else:
            told = of_task(facts, "failed" if error else "succeeded", reason, links)
        if self.text is None:
            return told
        return Message(title=self.text, good=told.good, reason=told.reason, facts=told.facts, links=links)

    def _ways(self, message: Message) -> Iterator[tuple[str, BaseNotifier]]:
        if self.slack_conn_id:
            yield "Slack", _slack(self.slack_conn_id, message)
        if self.email_to:
            yield "e-mail", _email(self.email_to, self.smtp_conn_id, message)
        if self.webhook_conn_id:
            yield "webhook", _webhook(self.webhook_conn_id, self.webhook_endpoint, message)


def _slack(conn_id: str, message: Message) -> BaseNotifier:
    try:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
    except ImportError as error:
        raise _not_installed("slack_conn_id", "slack") from error
    return SlackWebhookNotifier(
        slack_webhook_conn_id=conn_id, text=message.text(), blocks=message.slack_blocks()
    )


def _email(to: str | list[str], conn_id: str | None, message: Message) -> BaseNotifier:
    try:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier
    except ImportError as error:
        raise _not_installed("email_to", "smtp") from error
    return SmtpNotifier(to=to, subject=message.title, html_content=message.html(), smtp_conn_id=conn_id)


def _webhook(conn_id: str, endpoint: str | None, message: Message) -> BaseNotifier:
    try:
        from airflow.providers.http.notifications.http import HttpNotifier
    except ImportError as error:
        raise _not_installed("webhook_conn_id", "http") from error
    return HttpNotifier(http_conn_id=conn_id, endpoint=endpoint, json=message.payload())


def _not_installed(argument: str, provider: str) -> ConfigurationError:
    return ConfigurationError(
        f"{argument} needs Airflow's provider for it; pip install apache-airflow-providers-{provider}"
    )


def _raise_if_any(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigurationError(f"not everybody was told: {'; '.join(faults)}")


def _where(context: Mapping[str, Any]) -> dict[str, Any]:
    """The run; a deadline's context has it as plain values."""
    ti, run = context.get("ti"), context.get("dag_run")
    if ti is not None:
        return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
    values = run if isinstance(run, dict) else {key: getattr(run, key, None) for key in ("dag_id", "run_id")}
    return {"dag_id": values.get("dag_id"), "run_id": values.get("run_id") or values.get("dag_run_id")}


def _same_task(row: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return all(row.get(key) == facts.get(key) for key in ("dag_id", "run_id", "task_id"))


def _links(facts: Mapping[str, Any]) -> dict[str, str]:
    """The run and the fleet's page, below ``[api] base_url``; none where that is not set."""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    if not base:
        return {}
    links = {}
    if facts.get("dag_id") and facts.get("run_id"):
        links["Run"] = (
            f"{base}/dags/{quote(str(facts['dag_id']))}/runs/{quote(str(facts['run_id']), safe='')}"
        )
    if facts.get("model"):
        links["Fleet"] = f"{base}/plugin/model-fleet?model={quote(str(facts['model']))}"
    return links
