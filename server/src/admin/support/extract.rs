//! What a request says, read so that each fault is answered in the same form.

use std::{fmt::Display, str::FromStr};

use axum::{
    Json, RequestPartsExt,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{JsonRejection, PathRejection},
    },
};
use hyper::{StatusCode, http::request::Parts};
use serde::de::DeserializeOwned;

use super::Refusal;
use crate::http::error::HttpError;

/// What the path names.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let named: Result<Path<String>, PathRejection> = parts.extract().await;
        let Path(text) = named.map_err(|error| Refusal::bad(error.body_text()))?;
        let wrong = |error| Refusal::bad(format!("{text:.40} in the path: {error}"));
        text.parse().map(Self).map_err(wrong)
    }
}

/// What the query asks for.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(Refusal::bad(error.body_text())),
        }
    }
}

/// What the body says.
pub(super) struct Sent<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        read.map(|Json(sent)| Self(sent)).map_err(|error| {
            let kind = match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => HttpError::TooLarge,
                StatusCode::UNSUPPORTED_MEDIA_TYPE => HttpError::UnsupportedMediaType,
                _ => HttpError::BadRequest,
            };
            Refusal(kind, error.body_text())
        })
    }
}
