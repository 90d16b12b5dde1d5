//! The steps of a scenario file that contain URLs.

use hyper::{Method, http::uri::PathAndQuery};

use super::file::{FlowTable, StepTable, StepText, WITHIN};
use crate::{
    base::server_url::ServerUrl,
    plan::{
        flow::{Request, Step},
        template::{Names, Template},
    },
};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// The names under which the steps of these flows save a value.
pub(super) fn saved_names<'a>(flows: impl Iterator<Item = &'a FlowTable>) -> Vec<String> {
    let mut names = Vec::new();
    let mut steps: Vec<_> = flows.flat_map(|flow| &flow.steps).collect();
    while let Some(step) = steps.pop() {
        if let StepText::Table(table) = step.get_ref() {
            names.extend(table.save.iter().flatten().map(|(name, _)| name.clone()));
            steps.extend(table.steps.iter().flatten());
        }
    }
    names
}

/// `{ connect = "/ws?token={{token}}" }`
pub(super) fn connect(path: &str, names: &Names) -> Result<Step, String> {
    Ok(Step::ConnectTo(path_of(
        path,
        "/ws?token={{token}}",
        names,
    )?))
}

/// `{ http = "/health" }`
pub(super) fn http(url: &str, table: &StepTable, names: &Names) -> Result<Step, String> {
    let given = table.method.as_deref();
    let method = given.unwrap_or(if table.text.is_some() { "POST" } else { "GET" });
    let known = METHODS.iter().find(|known| known.as_str() == method);
    let method = known.ok_or_else(|| {
        format!("{method:?} is not a method: give GET, POST, PUT, PATCH or DELETE")
    })?;
    let body = match &table.text {
        Some(_) if *method == Method::GET => {
            return Err("a GET has no `text`: take it out, or give another `method`".to_owned());
        }
        Some(text) => Some(Template::parse(text, names).map_err(|error| error.to_string())?),
        None => None,
    };
    if body.as_ref().is_some_and(Template::has_payload) {
        return Err("{{payload}} is for messages: write the text out".to_owned());
    }
    let (origin, path) = match url.split_once("://") {
        None => (None, url),
        Some((_, rest)) => {
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            let origin =
                ServerUrl::parse(url.strip_suffix(path).unwrap_or(url), &["http", "https"]);
            let wrong = || {
                "an address of another server is like https://api.example.org/token, without blanks or names in \
                 its host"
            };
            (Some(origin.map_err(|_bad| wrong())?), path)
        }
    };
    // The query may contain a secret.
    let shown = url.split_once('?').map_or(url, |(shown, _)| shown);
    let name = table.name.clone();
    Ok(Step::Http(Request {
        name: name.unwrap_or_else(|| format!("{method} {shown}")),
        method: method.clone(),
        origin,
        path: path_of(path, "/health", names)?,
        body,
        status: table.status.unwrap_or(200),
        within: table.within.map_or(WITHIN, |time| time.0),
        save: save(table, names)?,
    }))
}

fn path_of(path: &str, such_as: &str, names: &Names) -> Result<Template, String> {
    let filled = path.replace("{{", "").replace("}}", "");
    if !path.starts_with('/') || filled.parse::<PathAndQuery>().is_err() {
        return Err(format!(
            "{path:?} is not a path: give one such as {such_as:?}"
        ));
    }
    Template::parse(path, names).map_err(|error| error.to_string())
}

fn save(table: &StepTable, names: &Names) -> Result<Vec<(String, String)>, String> {
    let mut save = Vec::new();
    for (name, pointer) in table.save.iter().flatten() {
        if names.is_taken(name) {
            return Err(format!(
                "{{{{{name}}}}} is something else already: save it under another name"
            ));
        }
        if !pointer.starts_with('/') {
            return Err(format!(
                "{pointer:?} is not a JSON pointer: give one such as \"/token\" or \"/user/id\""
            ));
        }
        save.push((name.clone(), pointer.clone()));
    }
    Ok(save)
}
