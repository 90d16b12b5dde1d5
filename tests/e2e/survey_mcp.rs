//! The tools of surveys by the Model Context Protocol: over HTTP, and on standard input and output.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    support::{TestServer, binary, http, jwt::Folder, run, within},
    surveys::{Held, SURVEY},
};

#[tokio::test]
async fn a_voice_agent_calls_the_tools_over_http() {
    let folder = Folder::new("survey-mcp");
    let held = Held::start(&folder).await;
    let ann = held.begin("ann").await;
    let call = async |token: &str, method: &str, params: Value| {
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let headers = format!(
            "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             MCP-Protocol-Version: 2025-06-18\r\nContent-Length: {}\r\nAuthorization: Bearer {token}\r\n",
            body.len()
        );
        http::request_with_body(held.server.public, "POST", "/mcp", &headers, &body).await
    };
    assert_eq!(call("x.y.z", "tools/list", json!({})).await.status, 401);
    let listed = call(&ann.1, "tools/list", json!({})).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let tools = listed.json()["result"]["tools"].clone();
    let names: Vec<_> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["get_next_question", "validate_answer", "record_response"]
    );
    let params = json!({"name": "get_next_question", "arguments": {}});
    let answer = call(&ann.1, "tools/call", params).await.json();
    assert_eq!(
        answer["result"]["structuredContent"]["question"]["id"], "use",
        "{answer}"
    );
    let params = json!({"name": "record_response", "arguments": {"question": "use", "value": 99, "request_id": "r1"}});
    let answer = call(&ann.1, "tools/call", params).await.json();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
}

/// `survey mcp`, and its client.
struct Agent {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    id: u32,
}

impl Agent {
    fn start(flags: &[&str]) -> Self {
        let mut process = Command::from(binary())
            .args(["survey", "mcp"])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self {
            input: process.stdin.take().unwrap(),
            output: output.lines(),
            process,
            id: 0,
        }
    }

    async fn tell(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        self.tell(json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}))
            .await;
        let line = within("an answer", self.output.next_line()).await;
        let answer: Value = serde_json::from_str(&line.unwrap().expect("goes on")).unwrap();
        assert_eq!(answer["id"], self.id, "{answer}");
        answer["result"].clone()
    }

    async fn greet(&mut self) {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}});
        let greeting = self.ask("initialize", params).await;
        assert_eq!(greeting["serverInfo"]["name"], "voicematch-surveys");
        self.tell(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
    }

    async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let params = json!({"name": name, "arguments": arguments});
        self.ask("tools/call", params).await["structuredContent"].clone()
    }

    /// The program ends when its input does.
    async fn end(mut self) {
        drop(self.input);
        let ended = within("the end", self.process.wait()).await.unwrap();
        assert!(ended.success(), "{ended}");
    }
}

#[tokio::test]
async fn an_agent_of_this_machine_leads_an_interview_without_a_server() {
    let folder = Folder::new("survey-stdio");
    let (file, state) = (folder.write("mobility.toml", SURVEY), folder.path("state"));
    let flags = [&*file, "--respondent", "ann", "--state-dir", &state];
    let mut agent = Agent::start(&flags);
    agent.greet().await;
    let asked = agent.tool("get_next_question", json!({})).await;
    assert_eq!(asked["question"]["id"], "use", "{asked}");
    let answer = json!({"spoken": "zero", "request_id": "1"});
    let recorded = agent.tool("record_response", answer).await;
    assert_eq!(recorded["stored"], true, "{recorded}");
    agent.end().await;

    // The same respondent goes on with it, and a server has the answer.
    let mut agent = Agent::start(&flags);
    agent.greet().await;
    let asked = agent.tool("get_next_question", json!({})).await;
    assert_eq!(asked["question"]["id"], "why_not", "{asked}");
    agent.end().await;
    let server = TestServer::start(&["--survey", &file, "--state-dir", &state]).await;
    let answers = http::get(server.admin, "/api/surveys/mobility/answers.jsonl").await;
    let answer: Value = serde_json::from_str(answers.text()).unwrap();
    assert_eq!(answer["value"], 0);

    let (code, said) = run(&["survey", "mcp", "/nowhere"]).await;
    assert_eq!(code, Some(2), "{said}");
}
