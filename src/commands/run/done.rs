//! `stages.json`: which stages of a run of a batch are done, and what came of them.

use serde_json::{Map, Value};

/// File name in the run folder: by stage what was `asked`, by digest, and the `result`.
pub(in crate::commands) const STAGES: &str = "stages.json";

/// What came of a stage, of those that were written down.
pub(in crate::commands) fn stage_of<'a>(stages: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    stages.get(name)?.get("result")
}
