"""Every setting, from the environment; docs/settings.md describes them.

The defaults run on one machine with SQLite and the embedded Valkey; nothing in the code changes for
PostgreSQL, a Redis of the site's own and many processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dj_database_url
from celery.schedules import schedule
from cryptography.fernet import Fernet

from config import env

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(env.text("MUSTER_HOME", str(BASE_DIR / "var"))).absolute()
VERSION = "0.1.0"

DEBUG = env.flag("MUSTER_DEBUG")
SECRET_KEY = env.secret("MUSTER_SECRET_KEY", HOME / "secret_key")
# Newest first: the first key encrypts, all of them decrypt (MultiFernet).
MUSTER_ENCRYPTION_KEYS = [
    key.strip()
    for key in env.secret("MUSTER_ENCRYPTION_KEYS", HOME / "encryption_keys", Fernet.generate_key().decode())
    .replace("\n", ",")
    .split(",")
    if key.strip()
]
# Where nodes and browsers reach us: boot scripts and links are written with it.
MUSTER_URL = env.text("MUSTER_URL", "http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS = env.words("MUSTER_ALLOWED_HOSTS", ["*"] if DEBUG else ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.words("MUSTER_TRUSTED_ORIGINS", [MUSTER_URL])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "django_filters",
    "django_htmx",
    "channels",
    "django_eventstream",
    "events_app",
    "accounts_app",
    "sessions_app",
    "tasks_app",
    "workflows_app",
]

MIDDLEWARE = [
    "accounts_app.addresses.AddressMiddleware",
    "config.api.NonsenseMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "accounts_app.audit.AuditMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "config.slashes.either_slash",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.context.remember_cursor",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False  # the documented paths have none, and a redirect would drop a POST's body

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.frame",
            ],
            "builtins": ["config.marks"],
        },
    },
]

# -- database ---------------------------------------------------------------------------------------
DATABASE_URL = env.text("MUSTER_DATABASE_URL", f"sqlite:///{HOME / 'muster.sqlite3'}")
DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    HOME.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        # Several processes write. A transaction takes the write lock when it begins, so that it can wait
        # for it; one that starts reading and then writes can't wait and fails at once.
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;"
            "PRAGMA temp_store=MEMORY;"
        ),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- the audit's archive ------------------------------------------------------------------------------
MUSTER_AUDIT_WEBHOOK = env.text("MUSTER_AUDIT_WEBHOOK")  # where audit rows are sent
MUSTER_AUDIT_WEBHOOK_SECRET = env.text("MUSTER_AUDIT_WEBHOOK_SECRET")  # signs them

# -- Redis (or Valkey): broker and bell ---------------------------------------------------------------
REDIS_URL = env.text("MUSTER_REDIS_URL", f"unix://{HOME / 'run' / 'redis.sock'}")
CELERY_BROKER_URL = env.text("MUSTER_BROKER_URL", REDIS_URL.replace("unix://", "redis+socket://", 1))
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    # Nodes have workers of their own: a long Terraform run must never hold back a boot.
    "sessions_app.steps.advance_nodes": {"queue": "boot"},
    "sessions_app.steps.configure_nodes": {"queue": "tasks"},
    "tasks_app.steps.*": {"queue": "tasks"},
    "workflows_app.steps.*": {"queue": "workflows"},
}
CELERY_TASK_ACKS_LATE = False  # a message is a wake-up only: losing one costs a tick, doubling one nothing
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker as long as it takes
CELERY_TASK_PUBLISH_RETRY = False  # who wakes must not wait for a broker that is away
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "health_check_interval": 10,
}
CELERY_TIMEZONE = "UTC"
# `expires`: while no worker runs, ticks must not pile up and all run at once afterwards.
CELERY_BEAT_SCHEDULE = {
    "beat-seen": {
        "task": "events_app.steps.note_beat",
        "schedule": schedule(2),
        "options": {"expires": 5},
    },
    "tell-progress": {
        "task": "events_app.steps.tell_progress",
        "schedule": schedule(1),
        "options": {"expires": 1},
    },
    "advance-nodes": {
        "task": "sessions_app.steps.advance_nodes",
        "schedule": schedule(2),
        "options": {"expires": 2},
    },
    "start-pending-sessions": {
        "task": "sessions_app.steps.start_pending",
        "schedule": schedule(2),
        "options": {"expires": 2},
    },
    "sweep-sessions": {
        "task": "sessions_app.steps.sweep",
        "schedule": schedule(10),
        "options": {"expires": 10},
    },
    "look-at-bmcs": {
        "task": "sessions_app.steps.look_at_bmcs",
        "schedule": schedule(10),
        "options": {"expires": 10},
    },
    "reconcile-workflows": {
        "task": "workflows_app.steps.reconcile",
        "schedule": schedule(2),
        "options": {"expires": 2},
    },
    "sweep-workflows": {
        "task": "workflows_app.steps.sweep",
        "schedule": schedule(10),
        "options": {"expires": 10},
    },
    "advance-runs": {
        "task": "tasks_app.steps.advance_runs",
        "schedule": schedule(2),
        "options": {"expires": 2},
    },
    "trigger-runs": {
        "task": "tasks_app.steps.trigger_runs",
        "schedule": schedule(1),
        "options": {"expires": 1},
    },
    "sweep-tasks": {
        "task": "tasks_app.steps.sweep",
        "schedule": schedule(3),
        "options": {"expires": 3},
    },
    "prune-runs": {
        "task": "tasks_app.steps.prune_runs",
        "schedule": schedule(3600),
        "options": {"expires": 3600},
    },
    "configure-nodes": {
        "task": "sessions_app.steps.configure_nodes",
        "schedule": schedule(2),
        "options": {"expires": 2},
    },
    "keep-up-sessions": {
        "task": "sessions_app.steps.keep_up",
        "schedule": schedule(60),
        "options": {"expires": 60},
    },
    "prune-idempotent-answers": {
        "task": "accounts_app.steps.prune_idempotent_answers",
        "schedule": schedule(3600),
        "options": {"expires": 3600},
    },
    **(
        {
            "deliver-audit": {
                "task": "accounts_app.steps.deliver_audit",
                "schedule": schedule(2),
                "options": {"expires": 2},
            }
        }
        if MUSTER_AUDIT_WEBHOOK
        else {}
    ),
    "prune-events": {
        "task": "events_app.steps.prune_events",
        "schedule": schedule(3600),
        "options": {"expires": 3600},
    },
}

# -- events -------------------------------------------------------------------------------------------
MUSTER_EVENTS_KEPT_DAYS = env.number("MUSTER_EVENTS_KEPT_DAYS", 30)
MUSTER_BACKGROUND_TASK_HOURS = env.number("MUSTER_BACKGROUND_TASK_HOURS", 24)
MUSTER_HEARER_OF = "config.streams.hearer_of"  # user → what he may hear
# django-eventstream: its storage is the event table, its channels are those of events_app.stream. No
# EVENTSTREAM_REDIS: the hub of each web process reads the table and hands out what all processes wrote.
EVENTSTREAM_STORAGE_CLASS = "events_app.stream.TableStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "events_app.stream.ChannelManager"

# -- drivers ------------------------------------------------------------------------------------------
MUSTER_POWER_DRIVERS = {
    "redfish": "sessions_app.drivers.redfish.RedfishDriver",
    "ipmi": "sessions_app.drivers.ipmi.IpmiDriver",
    "fake": "sessions_app.drivers.fake.FakeDriver",
}

# Where the credentials of BMCs are that name a path there instead of having a password here.
MUSTER_VAULT: dict[str, Any] = {
    "url": env.text("MUSTER_VAULT_URL"),
    "mount": env.text("MUSTER_VAULT_MOUNT", "secret"),
    "namespace": env.text("MUSTER_VAULT_NAMESPACE"),
    "ca_file": env.text("MUSTER_VAULT_CA"),
    "token": env.text("MUSTER_VAULT_TOKEN"),
    "role_id": env.text("MUSTER_VAULT_ROLE_ID"),
    "secret_id": env.text("MUSTER_VAULT_SECRET_ID"),
    "cache_seconds": env.number("MUSTER_VAULT_CACHE_SECONDS", 60),
}

# Where boot scripts are given at all; empty: everywhere.
MUSTER_BOOT_NETWORKS = env.words("MUSTER_BOOT_NETWORKS", [])
# Tokens only for nodes that a session is booting, and to one address at a time.
MUSTER_BOOT_STRICT = env.flag("MUSTER_BOOT_STRICT")

# How configurations are applied: "none" passes the configure phase through (the image brings it along).
MUSTER_CONFIGURATION_DRIVER = env.text("MUSTER_CONFIGURATION_DRIVER", "none")
MUSTER_CONFIGURATION_DRIVERS = {
    "ansible": "sessions_app.configuration.ansible.AnsibleConfiguration",
    "fake": "sessions_app.configuration.fake.FakeConfiguration",
}
MUSTER_CONFIGURATIONS = env.text("MUSTER_CONFIGURATIONS", str(HOME / "configurations"))
MUSTER_CONFIGURATION_RUNS = max(env.number("MUSTER_CONFIGURATION_RUNS", 2), 1)  # at a time, per process
MUSTER_CONFIGURATION_BATCH = max(env.number("MUSTER_CONFIGURATION_BATCH", 500), 1)  # nodes of one run
MUSTER_CONFIGURATION_FORKS = max(env.number("MUSTER_CONFIGURATION_FORKS", 20), 1)  # nodes at a time in a run
MUSTER_CONFIGURATION_SECONDS = env.number("MUSTER_CONFIGURATION_SECONDS", 1800)

MUSTER_RUNTIME_DRIVERS = {
    "process": "workflows_app.drivers.process.ProcessRuntime",
    "container": "workflows_app.drivers.container.ContainerRuntime",
    "kubernetes": "workflows_app.drivers.kubernetes.KubernetesRuntime",
    "fake": "workflows_app.drivers.fake.FakeRuntime",
}

# -- workflows ----------------------------------------------------------------------------------------
# Where the runtimes of this machine (processes, containers) keep what they run, and their logs.
MUSTER_RUNTIME_DIR = Path(env.text("MUSTER_RUNTIME_DIR", str(HOME / "runtimes"))).absolute()
MUSTER_GATEWAYS = env.number("MUSTER_GATEWAYS", 1)  # gateway processes asked for: the stream's `desired`
# Where services and the web process reach the gateways; empty = one on this machine, on a port of its own.
MUSTER_GATEWAY_URL = env.text("MUSTER_GATEWAY_URL")
MUSTER_GATEWAY_SEEN_SECONDS = env.number("MUSTER_GATEWAY_SEEN_SECONDS", 5)
MUSTER_RUN_BODY_BYTES = env.number("MUSTER_RUN_BODY_BYTES", 32 * 1024 * 1024)  # request and answer alike
MUSTER_RUNS_KEPT_DAYS = env.number("MUSTER_RUNS_KEPT_DAYS", 7)

# -- infrastructure tasks -----------------------------------------------------------------------------
MUSTER_TASK_DRIVERS = {
    "terraform": "tasks_app.drivers.terraform.TerraformDriver",
    "command": "tasks_app.drivers.command.CommandDriver",
    "fake": "tasks_app.drivers.fake.FakeDriver",
}
MUSTER_TASKS_HOME = Path(env.text("MUSTER_TASKS_HOME", str(HOME / "tasks"))).absolute()
MUSTER_TERRAFORM = env.text("MUSTER_TERRAFORM", "terraform")
MUSTER_TASK_RUNS = env.number("MUSTER_TASK_RUNS", 4)  # at the same time in one worker process
MUSTER_TASK_TIMEOUT = env.number("MUSTER_TASK_TIMEOUT", 3600)  # seconds of one attempt
MUSTER_TASK_RETRIES = env.number("MUSTER_TASK_RETRIES", 2)  # of triggered runs
MUSTER_TASK_RUNS_KEPT_DAYS = env.number("MUSTER_TASK_RUNS_KEPT_DAYS", 90)
# Quiet time after a change before a run, and how long it can be put off, in seconds.
MUSTER_TASK_BUFFER = (
    float(env.number("MUSTER_TASK_BUFFER_MIN", 5)),
    float(env.number("MUSTER_TASK_BUFFER_MAX", 20)),
)
# Where Terraform keeps its state: name = {kind: {settings of the backend block}}; `http` is our own.
MUSTER_TASK_BACKENDS = {"local": {"local": {}}, "http": {"http": {}}, **env.mapping("MUSTER_TASK_BACKENDS")}
MUSTER_TASK_BACKEND = env.text("MUSTER_TASK_BACKEND", "local")
# Of Terraform providers: {name: {"source", "version", "config": {}, "env": {}}}.
MUSTER_TASK_PROVIDERS = env.mapping("MUSTER_TASK_PROVIDERS")
# Consul's own variables are understood, too; there an address may come without its scheme.
MUSTER_CONSUL = {
    "address": env.text("MUSTER_CONSUL_URL", env.text("CONSUL_HTTP_ADDR")),
    "token": env.text("MUSTER_CONSUL_TOKEN", env.text("CONSUL_HTTP_TOKEN")),
}
if MUSTER_CONSUL["address"] and "://" not in MUSTER_CONSUL["address"]:
    MUSTER_CONSUL["address"] = f"http://{MUSTER_CONSUL['address']}"
MUSTER_SCHEDULE_TIME_ZONE = env.text("MUSTER_SCHEDULE_TIME_ZONE", "UTC")

# -- who you are --------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts_app.User"
AUTHENTICATION_BACKENDS = ["accounts_app.passwords.Passwords"]
MUSTER_PASSWORDS = env.flag("MUSTER_PASSWORDS", True)
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login"
# The site's OpenID Connect issuer (docs/identity.md): people sign in there where there is a client id, and
# programs come with its tokens where there is an audience.
MUSTER_OIDC: dict[str, Any] = {
    "issuer": env.text("MUSTER_OIDC_ISSUER"),
    "client_id": env.text("MUSTER_OIDC_CLIENT_ID"),
    "client_secret": env.text("MUSTER_OIDC_CLIENT_SECRET"),
    "scopes": env.text("MUSTER_OIDC_SCOPES", "openid profile"),
    "label": env.text("MUSTER_OIDC_LABEL", "single sign-on"),
    "logout": env.flag("MUSTER_OIDC_LOGOUT"),
    "session_hours": env.number("MUSTER_OIDC_SESSION_HOURS", 12),
    "audiences": env.words("MUSTER_OIDC_AUDIENCES", []),
    "algorithms": env.words("MUSTER_OIDC_ALGORITHMS", ["RS256", "ES256"]),
    "username_claim": env.text("MUSTER_OIDC_USERNAME_CLAIM", "preferred_username"),
    "role_claim": env.text("MUSTER_OIDC_ROLE_CLAIM", "realm_access.roles"),
    "roles": env.mapping("MUSTER_OIDC_ROLES")
    or {f"muster-{role}": role for role in ("viewer", "user", "admin", "superadmin")},
    "domain_claim": env.text("MUSTER_OIDC_DOMAIN_CLAIM"),
    "project_claim": env.text("MUSTER_OIDC_PROJECT_CLAIM"),
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
if "pytest" in sys.modules:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # tests make hundreds of users

# Networks of proxies whose X-Forwarded-For is believed.
MUSTER_TRUSTED_PROXIES = env.words("MUSTER_TRUSTED_PROXIES", [])
# Requests a minute of one key or person; 0 = any number. Tests ask as fast as they can.
MUSTER_API_RATE = env.number("MUSTER_API_RATE", 0 if "pytest" in sys.modules else 12000)
MUSTER_STREAMS_PER_USER = env.number("MUSTER_STREAMS_PER_USER", 500)  # in one web process; 0 = any number
MUSTER_IDEMPOTENCY_HOURS = env.number("MUSTER_IDEMPOTENCY_HOURS", 24)

REST_FRAMEWORK = {
    "DEFAULT_THROTTLE_CLASSES": ["accounts_app.limits.RateThrottle"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts_app.authentication.KeyAuthentication",
        "accounts_app.authentication.LoginAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts_app.permissions.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts_app.parsers.CarefulJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "config.api.Pages",
    "PAGE_SIZE": 100,
    "DEFAULT_FILTER_BACKENDS": ["accounts_app.filters.StrictFilter"],
    "EXCEPTION_HANDLER": "config.api.handle_exception",
    "COERCE_DECIMAL_TO_STRING": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Muster",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "ENABLE_DJANGO_DEPLOY_CHECK": False,  # whether the schema is well described is no matter of deploying
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.api.describe_refusals",
    ],
    # The page's assets come with the package drf-spectacular-sidecar: no request leaves the machine.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# -- pages --------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("MUSTER_STATIC_ROOT", str(HOME / "static")))
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise looks in at start, collected or not
WHITENOISE_USE_FINDERS = True
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["config.formats"]
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

# -- safety -------------------------------------------------------------------------------------------
# Nothing inline, nothing from elsewhere: what an attacker manages to write into a page does not run.
_issuer = "/".join(MUSTER_OIDC["issuer"].split("/")[:3])
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "worker-src": ["'self'"],
        # Browsers hold the form that signs out to this also where it is led on to the issuer.
        "form-action": ["'self'", *([_issuer] if MUSTER_OIDC["logout"] else [])],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
HTTPS = MUSTER_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.number("MUSTER_HSTS_SECONDS", 3600)
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz\Z", r"^readyz\Z"]  # asked at the port itself, past the proxy
# HSTS for other hosts of the site's domain, or in browsers' own lists, is not ours to decide.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10000  # ids of ticked nodes in a form
DATA_UPLOAD_MAX_MEMORY_SIZE = env.number("MUSTER_MAX_BODY_BYTES", 10 * 1024 * 1024)
MUSTER_REQUEST_SECONDS = max(env.number("MUSTER_REQUEST_SECONDS", 60), 1)  # in which a request must be here

LOG_LEVEL = env.text("MUSTER_LOG_LEVEL", "INFO").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {
        "not_readyz": {"()": "config.logs.NotReadyIsNoError"},
        "without_blame": {"()": "config.logs.WithoutBlame"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["without_blame"]}
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR", "filters": ["not_readyz"]},
        # Celery says each tick's arrival and end at INFO: two lines a second that nobody reads.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.worker.request": {"level": "WARNING"},  # ticks that expired while a worker was busy
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
