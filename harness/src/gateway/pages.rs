//! Pages of a running gateway that say what it is.

use std::time::Duration;

use serde_json::Value;

use super::secret::Secret;

/// A page of the gateway must be there by then.
const PAGE_LIMIT: Duration = Duration::from_secs(10);
/// No page that is read is longer.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The pages of one gateway, as one caller.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// Without `/v1`.
    pub url: &'a str,
    /// What the caller presents.
    pub key: &'a Secret,
}

/// Why a page was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Nothing was answered.
    #[error("the gateway's page {path}: {reason}")]
    Transport {
        /// Which.
        path: String,
        /// In words, without the URL.
        reason: String,
    },
    /// Something else was answered.
    #[error("the gateway's page {path} answers {status}")]
    Status {
        /// Which.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// It goes on beyond what anybody reads.
    #[error("the gateway's page {0} is longer than anybody reads")]
    TooLong(String),
    /// It is for people.
    #[error("the gateway's page {0} is no JSON")]
    NotJson(String),
}

impl PageError {
    /// The gateway answered, and does not take the key.
    #[must_use]
    pub fn is_key_refused(&self) -> bool {
        // LiteLLM says 400 where a key is no key of its own, and has no database to look it up.
        matches!(self, Self::Status { status: 400 | 401 | 403, .. })
    }
}

impl Pages<'_> {
    /// The three pages on which a gateway tells how it routes: `/router/settings`, `/v1/model/info`, `/v1/models`. None
    /// of them calls a model.
    ///
    /// # Errors
    /// The first that there is not.
    pub async fn routing(&self) -> Result<[Value; 3], PageError> {
        let (settings, info, models) = tokio::try_join!(
            self.get("/router/settings"),
            self.get("/v1/model/info"),
            self.get("/v1/models")
        )?;
        Ok([settings, info, models])
    }

    /// A page, as JSON.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn get(&self, path: &str) -> Result<Value, PageError> {
        let failed = |error: reqwest::Error| PageError::Transport {
            path: path.to_owned(),
            reason: error.without_url().to_string(),
        };
        let client = crate::http::client_for(self.url).timeout(PAGE_LIMIT).build().map_err(failed)?;
        let request = client.get(format!("{}{path}", self.url.trim_end_matches('/')));
        let request = request.header("authorization", format!("Bearer {}", self.key.expose()));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(PageError::Status { path: path.to_owned(), status });
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > PAGE_BYTES_MAX {
                return Err(PageError::TooLong(path.to_owned()));
            }
            body.extend_from_slice(&part);
        }
        serde_json::from_slice(&body).map_err(|_| PageError::NotJson(path.to_owned()))
    }
}
