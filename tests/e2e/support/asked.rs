//! A server that transcribes and holds a survey, with an interview that has begun.

use serde_json::json;

use super::{TestServer, binary, http, jwt::Folder, talk::ask};

/// Many finals, so that there is much to write.
pub(crate) const FAKE: &str = "fake:?final=500ms&delay=10ms";

const SURVEY: &str = r#"
id = "mood"
languages = ["en"]
[[question]]
id = "now"
type = "text"
text = { en = "How are you?" }
[[question]]
id = "then"
type = "text"
text = { en = "And yesterday?" }
[[question]]
id = "soon"
type = "text"
text = { en = "And tomorrow?" }
"#;

/// All but the database.
fn common(folder: &Folder) -> Vec<String> {
    let (state, survey) = (folder.path("state"), folder.write("mood.toml", SURVEY));
    let flags = ["--transcribe", FAKE, "--survey", &survey];
    let more = ["--state-dir", &state];
    let all = flags.into_iter().chain(more);
    all.map(str::to_owned).collect()
}

fn flags(folder: &Folder, database: &str) -> Vec<String> {
    let mut flags = common(folder);
    flags.extend(["--database".to_owned(), database.to_owned()]);
    flags
}

fn as_text(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// Such a server that has its database from the environment.
pub(crate) async fn start_by_environment(folder: &Folder, database: &str) -> TestServer {
    let mut command = binary();
    command.env("DATABASE_URL", database);
    TestServer::start_command(command, "127.0.0.1:0", &as_text(&common(folder))).await
}

/// A server with a survey, and an interview that has begun.
pub(crate) struct Asked {
    pub(crate) server: TestServer,
    interview: String,
    token: String,
}

impl Asked {
    pub(crate) async fn begin(folder: &Folder, database: &str) -> Self {
        let flags = flags(folder, database);
        Self::of(TestServer::start(&as_text(&flags)).await).await
    }

    /// Of a server with mounts of its own.
    pub(crate) async fn begin_with_mounts(folder: &Folder, script: &str, database: &str) -> Self {
        let flags = flags(folder, database);
        Self::of(TestServer::start_with_mounts(script, &as_text(&flags)).await).await
    }

    pub(crate) async fn of(server: TestServer) -> Self {
        let path = "/api/surveys/mood/sessions";
        let (status, begun) = ask(&server, "POST", path, None, &json!({})).await;
        assert_eq!(status, 201, "{begun}");
        let text = |name: &str| begun[name].as_str().unwrap().to_owned();
        Self {
            server,
            interview: text("session"),
            token: text("token"),
        }
    }

    /// Answers the next question; again, as a caller does that has lost the first reply.
    pub(crate) async fn answer(&self, text: &str) {
        let path = format!("/api/surveys/sessions/{}/record_response", self.interview);
        let given = json!({"value": text, "request_id": text});
        for _ in 0..2 {
            let token = Some(&*self.token);
            let (status, reply) = ask(&self.server, "POST", &path, token, &given).await;
            assert_eq!((status, &reply["stored"]), (200, &json!(true)), "{reply}");
        }
    }

    /// The stored answers.
    pub(crate) async fn answers(&self) -> Vec<String> {
        let answer = http::get(self.server.admin, "/api/surveys/mood/answers.jsonl").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines = answer.text().lines();
        let values = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values
            .map(|line| line["value"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) async fn ready(&self) -> String {
        let answer = self.server.admin("/readyz").await;
        assert_eq!(answer.status, 200, "matching needs no database");
        answer.text().to_owned()
    }
}
