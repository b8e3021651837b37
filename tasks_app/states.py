"""Words of tasks, runs and triggers, each with its meaning, and their allowed moves."""

from django.db.models import TextChoices


class TaskStatus(TextChoices):
    """Whether a task exists; says nothing about how its runs end."""

    DRAFT = "draft", "draft"  # lives only for one inspection, nobody sees it
    CREATING = "creating", "creating"  # its first run decides whether it comes to exist
    ACTIVE = "active", "active"  # exists
    DELETING = "deleting", "deleting"  # marked: goes as soon as nothing of it runs
    DELETED = "deleted", "deleted"  # gone for the documented API; its history is kept until pruned


TASK_MOVES: dict[str, frozenset[str]] = {
    TaskStatus.DRAFT: frozenset({TaskStatus.DELETED}),
    TaskStatus.CREATING: frozenset({TaskStatus.ACTIVE, TaskStatus.DELETED}),
    TaskStatus.ACTIVE: frozenset({TaskStatus.DELETING}),
    TaskStatus.DELETING: frozenset({TaskStatus.DELETED, TaskStatus.ACTIVE}),  # active: destroying failed
    TaskStatus.DELETED: frozenset(),
}
VISIBLE = frozenset({TaskStatus.ACTIVE, TaskStatus.DELETING})
NAMED = frozenset({TaskStatus.CREATING, TaskStatus.ACTIVE, TaskStatus.DELETING})  # these own their name


class Operation(TextChoices):
    """What a run is asked to do."""

    PREPARE = "prepare", "prepare"  # initialise and validate, touch nothing
    INSPECT = "inspect", "inspect"  # and plan
    APPLY = "apply", "apply"  # and apply that plan
    DESTROY = "destroy", "destroy"  # plan and apply the removal of everything
    DRIFT = "drift", "drift"  # compare the recorded state with reality, change nothing


CHANGING = frozenset({Operation.APPLY, Operation.DESTROY})


class RunStatus(TextChoices):
    """Where one run stands. Working words end in -ing."""

    QUEUED = "queued", "queued"  # waits for a worker, for its task to be idle, or for its next attempt
    PLANNING = "planning", "planning"  # a worker initialises and plans
    UNCONFIRMED = "unconfirmed", "waiting for approval"  # the plan is saved; somebody approves or discards
    CONFIRMED = "confirmed", "approved"  # waits for a worker that applies the saved plan
    APPLYING = "applying", "applying"  # a worker applies the saved plan
    SUCCEEDED = "succeeded", "succeeded"  # did all that was asked; possibly nothing was to do
    FAILED = "failed", "failed"  # `error` says why
    CANCELLED = "cancelled", "cancelled"  # somebody stopped it
    DISCARDED = "discarded", "discarded"  # its plan was refused, or a newer run took its place


WORKING = frozenset({RunStatus.PLANNING, RunStatus.APPLYING})
OPEN = WORKING | {RunStatus.QUEUED, RunStatus.UNCONFIRMED, RunStatus.CONFIRMED}
ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.DISCARDED})
BUSY = OPEN - {RunStatus.UNCONFIRMED}  # the task can't be changed meanwhile

RUN_MOVES: dict[str, frozenset[str]] = {
    RunStatus.QUEUED: frozenset(
        {RunStatus.PLANNING, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.PLANNING: frozenset(
        {
            RunStatus.QUEUED,  # another attempt
            RunStatus.UNCONFIRMED,
            RunStatus.APPLYING,
            RunStatus.SUCCEEDED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.UNCONFIRMED: frozenset({RunStatus.CONFIRMED, RunStatus.DISCARDED, RunStatus.CANCELLED}),
    RunStatus.CONFIRMED: frozenset({RunStatus.APPLYING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.APPLYING: frozenset(
        {RunStatus.QUEUED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.DISCARDED: frozenset(),
}


class Health(TextChoices):
    """What the newest five events of a task say (seed 002)."""

    SUCCESSFUL = "successful", "successful"
    ERRORED = "errored", "errored"
    CRITICAL = "critical", "critical"
    UNKNOWN = "unknown", "unknown"


class TriggerKind(TextChoices):
    """What may start a run, or feed its module."""

    SERVICES = "services", "services"
    CATALOG_SERVICES = "catalog_services", "catalog services"
    CONSUL_KV = "consul_kv", "Consul KV"
    SCHEDULE = "schedule", "schedule"
    SESSION = "session", "boot session"
    WORKFLOW = "workflow", "workflow"


WATCHED = frozenset({TriggerKind.SERVICES, TriggerKind.CATALOG_SERVICES, TriggerKind.CONSUL_KV})
HEARD = frozenset({TriggerKind.SESSION, TriggerKind.WORKFLOW})

# Colour and glyph of a status, the tokens of the pages and the admin.
TOKENS: dict[str, str] = {
    RunStatus.QUEUED: "not-started",
    RunStatus.PLANNING: "in-progress",
    RunStatus.UNCONFIRMED: "attention",
    RunStatus.CONFIRMED: "in-progress",
    RunStatus.APPLYING: "in-progress",
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "excluded",
    RunStatus.DISCARDED: "excluded",
    Health.SUCCESSFUL: "succeeded",
    Health.ERRORED: "attention",
    Health.CRITICAL: "failed",
    Health.UNKNOWN: "not-started",
}

# Seconds. A worker renews its claim every RENEW; it has stopped what it runs before CLAIM is over.
CLAIM = 60.0
RENEW = 5.0
GIVE_UP = 35.0  # without a renewal for so long, the worker interrupts what it runs
INTERRUPT_GRACE = 20.0  # between SIGINT and SIGKILL
INPUT_WAIT = 60.0  # how long a new task waits for complete data (contract, CTS 6)
MOST_INTERRUPTIONS = 10  # after so many deaths of its worker a run is given up
MAX_EVENTS = 5  # what the documented API shows
