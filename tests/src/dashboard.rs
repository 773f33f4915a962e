//! The shipped dashboard: its panels and their queries, as Grafana would send them.

use std::fs;

use serde_json::Value;

use crate::target::workspace;

/// A panel with queries.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is called.
    pub title: String,
    /// Grafana's word for the unit of its values.
    pub unit: String,
    /// Whether it shows values over time, and not one.
    pub over_time: bool,
    /// Its queries.
    pub queries: Vec<Query>,
}

/// A query of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// The expression, its variables replaced by all there is.
    pub expression: String,
    /// How a series is named: text with labels in double braces.
    pub legend: String,
}

impl Query {
    /// The name of a series.
    #[must_use]
    pub fn name(&self, labels: &serde_json::Map<String, Value>) -> String {
        let mut name = self.legend.clone();
        for (label, value) in labels {
            name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
        }
        name
    }
}

/// The panels in their order; rates are taken over `interval`, such as `10s`.
///
/// # Panics
/// Where the dashboard is no JSON, or a query has a variable that is not known here.
#[must_use]
pub fn panels(interval: &str) -> Vec<Panel> {
    let path = workspace().join("deploy/grafana/dashboard.json");
    let text = fs::read_to_string(&path).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let query = |target: &Value| {
        let expression = string(&target["expr"]).replace("$__rate_interval", interval);
        let expression = expression.replace("$instance", ".*").replace("$group", ".*");
        assert!(
            !expression.is_empty() && !expression.contains('$'),
            "a query of the dashboard: {expression}"
        );
        Query { expression, legend: string(&target["legendFormat"]) }
    };
    let panel = |panel: &Value| Panel {
        title: string(&panel["title"]),
        unit: string(&panel["fieldConfig"]["defaults"]["unit"]),
        over_time: panel["type"] == "timeseries",
        queries: panel["targets"].as_array().into_iter().flatten().map(query).collect(),
    };
    let panels = dashboard["panels"].as_array().expect("panels").iter().map(panel);
    panels.filter(|panel| !panel.queries.is_empty()).collect()
}
