"""What pages ask: read only, a fixed number of queries each, never a query for a node."""

from sessions_app.selectors.attention import (
    Attention,
    attention,
    counts_by_status,
    failed_nodes,
    node_counts,
    nodes_needing_attention,
    sessions_needing_attention,
)
from sessions_app.selectors.lists import BAR_ORDER, SessionRow, session_rows, sessions_with_counts
from sessions_app.selectors.map import cabinets_of, map_document
from sessions_app.selectors.nodes import (
    PhaseStep,
    at_work_by_hand,
    log_lines,
    newest_by_hand,
    node_ids,
    node_in_session,
    nodes_with_steps,
    open_names,
    phase_step,
    retryable,
    timeline,
)
from sessions_app.selectors.search import find_nodes, find_sessions
from sessions_app.selectors.session import faults_of, picture, still_since

__all__ = [
    "BAR_ORDER",
    "Attention",
    "PhaseStep",
    "SessionRow",
    "at_work_by_hand",
    "attention",
    "cabinets_of",
    "counts_by_status",
    "failed_nodes",
    "faults_of",
    "find_nodes",
    "find_sessions",
    "log_lines",
    "map_document",
    "newest_by_hand",
    "node_counts",
    "node_ids",
    "node_in_session",
    "nodes_needing_attention",
    "nodes_with_steps",
    "open_names",
    "phase_step",
    "picture",
    "retryable",
    "session_rows",
    "sessions_needing_attention",
    "sessions_with_counts",
    "still_since",
    "timeline",
]
