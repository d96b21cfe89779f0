//! What a bundle makes public, in words.

use ftk_circuits::SiteShape;
use ftk_networks::graphs::opened::OpenedPart;

use crate::bundle::LOGITS;
use crate::replay::rows_of;
use crate::statement::Statement;

/// What every proof in open mode gives away.
pub const DISCLOSURE: &str = "open mode publishes the exact delta of every adapted site on every row (token, or node that \
    receives); from about rank + 2 rows these give away B, and more of them the whole adapter";

/// What a bundle makes public; of a sealed one it is said how many logits came along.
pub fn disclosed(
    statement: &Statement,
    graph: Option<&OpenedPart>,
    shapes: &[SiteShape],
    sealed: Option<u64>,
) -> String {
    let rows = rows_of(statement, graph, shapes).into_iter().max().unwrap_or(0);
    let ranks = shapes.iter().map(|shape| shape.rank);
    let (least, most) = (ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0));
    let ranks = if least == most { format!("rank {most}") } else { format!("ranks {least} to {most}") };
    let most = if graph.is_some() { "up to " } else { "" };
    let sites = shapes.len();
    let Some(logits) = sealed else {
        return format!("open: {most}{rows} rows at each of {sites} sites of {ranks}; {DISCLOSURE}");
    };
    let answers = match statement.cases.len() {
        1 => "1 answer".to_owned(),
        many => format!("{many} answers"),
    };
    let numbers = if statement.cases.iter().all(|case| case.output.is_ids()) { "" } else { ", numbers more than ids" };
    let logits = if logits == 0 { String::new() } else { format!(", and the {logits} logits of {LOGITS}") };
    format!(
        "sealed: of the adapter its digest, {sites} sites of {ranks} with names, shapes and scales, and {answers} over \
         {most}{rows} rows (tokens or nodes){logits}; nothing else, but that enough answers tell what it does{numbers}"
    )
}
