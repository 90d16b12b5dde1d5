//! An interview: a question, an answer that fits it, the next question.

use std::{rc::Rc, time::Duration};

use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    api::{Ask, MAX_BYTES, OpenCall},
    line::{Line, Told},
    lock, pause,
};
use crate::{
    base::random::mixed,
    measure::{
        sample::{ErrorKind, Sample, ServerCode},
        talk::TalkSample,
    },
    plan::{
        flow::Between,
        talk::{Interview, Over},
    },
    user::{
        Stop, User, WorkerContext,
        net::http::{Answer, KeptConnection, collect},
    },
};

#[derive(Deserialize)]
struct Begun {
    session: String,
    token: String,
}

#[derive(Deserialize)]
struct Next {
    question: Option<Question>,
    #[serde(default)]
    done: bool,
}

#[derive(Deserialize)]
struct Question {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    min: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    value: Value,
}

#[derive(Deserialize)]
struct Checked {
    valid: bool,
}

#[derive(Deserialize)]
struct Recorded {
    stored: bool,
}

impl Question {
    /// An answer that fits. `turn`: users take turns in choices.
    fn answer(&self, turn: u32) -> Value {
        let choice = |turn: u32| {
            let choices = self.choices.iter().cycle();
            let mut choices = choices.skip(turn as usize % self.choices.len().max(1));
            choices
                .next()
                .map_or(Value::Null, |choice| choice.value.clone())
        };
        match self.kind.as_str() {
            "yes_no" => json!(turn.is_multiple_of(2)),
            "choice" => choice(turn),
            "choices" => json!([choice(turn)]),
            "scale" | "number" => self.min.clone().unwrap_or(json!(1)),
            "date" => self.min.clone().unwrap_or(json!("2026-02-28")),
            _ => json!(format!("the answer of user {turn}")),
        }
    }
}

/// How the tools of one interview are called.
struct Caller {
    context: Rc<WorkerContext>,
    user: u32,
    begun: Begun,
    within: Duration,
    way: Way,
}

enum Way {
    /// A connection that is kept; none yet, or the last one is lost.
    Http(Option<KeptConnection>),
    Ws(Box<Line>),
}

impl User {
    /// Holds an interview.
    pub(in crate::user) async fn interview(&mut self, interview: &Interview) -> Result<(), Stop> {
        let context = Rc::clone(&self.context);
        let user = self.start.user;
        let due = self.due.take().unwrap_or_else(|| context.now());
        self.requests = self.requests.wrapping_add(1);
        let respondent = format!("{:08x}-{user}-{}", context.run, self.requests);
        let path = format!("/api/surveys/{}/sessions", interview.survey);
        let ask = Ask {
            call: "begin_interview",
            method: Method::POST,
            path: &path,
            body: Some(json!({ "respondent": respondent }).to_string()),
            within: interview.within,
        };
        let begun: Option<Begun> = context.ask(user, ask).await;
        let begun = begun.ok_or(Stop::Failed)?;
        let way = match interview.over {
            Over::Http => Way::Http(None),
            Over::Ws => {
                let opening = Line::open(&context, user, &begun.token, "", due, false);
                Way::Ws(Box::new(opening.await.map_err(Stop::NotConnected)?))
            }
        };
        let mut caller = Caller {
            context,
            user,
            begun,
            within: interview.within,
            way,
        };
        let held = self.ask_all(interview, &mut caller).await;
        if let Way::Ws(line) = caller.way {
            match &held {
                Err(Stop::Broken(_)) => {}
                _ => line.close().await,
            }
        }
        held
    }

    async fn ask_all(&self, interview: &Interview, caller: &mut Caller) -> Result<(), Stop> {
        for cycle in 0..interview.cycles {
            if self.is_over() {
                return Err(Stop::Over);
            }
            let asked: Next = caller.call("get_next_question", json!({})).await?;
            let Some(question) = asked.question.filter(|_| !asked.done) else {
                return Ok(());
            };
            pause(
                &self.context,
                thinking(interview.think, self.start.user, cycle),
            )
            .await;
            let answer = question.answer(self.start.user);
            let mut arguments = json!({ "question": question.id, "value": answer });
            let checked: Checked = caller.call("validate_answer", arguments.clone()).await?;
            if !checked.valid {
                self.tell_error(ErrorKind::BadMessage);
                return Err(Stop::Failed);
            }
            arguments["request_id"] = json!(format!("r{cycle}"));
            let recorded: Recorded = caller.call("record_response", arguments).await?;
            if !recorded.stored {
                self.tell_error(ErrorKind::BadMessage);
                return Err(Stop::Failed);
            }
            self.tell(Sample::Talk(TalkSample::AnswerStored));
            let mut answers = lock(&self.context.talks.answers);
            answers.add(&interview.survey, &caller.begun.session, &question.id);
        }
        Ok(())
    }
}

fn thinking(think: Between, user: u32, cycle: u32) -> Duration {
    let longer = think.to.saturating_sub(think.from);
    think.from + longer.mul_f64(mixed(user, cycle))
}

impl Caller {
    /// Calls a tool, and reads its answer.
    async fn call<T: for<'de> Deserialize<'de>>(
        &mut self,
        tool: &str,
        arguments: Value,
    ) -> Result<T, Stop> {
        let context = Rc::clone(&self.context);
        let call = context.begin_call(tool);
        match &mut self.way {
            Way::Http(kept) => {
                let mut connection = kept.take();
                let asking = ask_over_http(
                    &context,
                    self.user,
                    &mut connection,
                    &self.begun,
                    tool,
                    &arguments,
                );
                let answer = timeout(self.within, Box::pin(asking)).await;
                if matches!(answer, Ok(Ok(_))) {
                    *kept = connection;
                }
                call.ended(answer.map_err(|_elapsed| ()))
                    .ok_or(Stop::Failed)
            }
            Way::Ws(line) => ask_over_ws(&context, line, call, self.within, tool, &arguments).await,
        }
    }
}

async fn ask_over_http(
    context: &WorkerContext,
    user: u32,
    kept: &mut Option<KeptConnection>,
    begun: &Begun,
    tool: &str,
    arguments: &Value,
) -> Result<Answer, ErrorKind> {
    let server = context.servers.own();
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(KeptConnection::open(server, user).await?),
    };
    let mut headers = server.headers(user);
    let bearer = HeaderValue::try_from(format!("Bearer {}", begun.token));
    headers.insert(
        AUTHORIZATION,
        bearer.map_err(|_unusable| ErrorKind::HttpInvalid)?,
    );
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let path = format!("/api/surveys/sessions/{}/{tool}", begun.session);
    let asked = connection.ask(Method::POST, &path, headers, arguments.to_string().into());
    let response = asked.await?;
    let status = response.status().as_u16();
    let body = collect(response.into_body(), MAX_BYTES).await?;
    Ok(Answer {
        status,
        body: Some(body.into()),
    })
}

async fn ask_over_ws<T: for<'de> Deserialize<'de>>(
    context: &WorkerContext,
    line: &mut Line,
    call: OpenCall<'_>,
    within: Duration,
    tool: &str,
    arguments: &Value,
) -> Result<T, Stop> {
    let asked = json!({ "type": "tool", "name": tool, "arguments": arguments });
    let answering = async {
        line.say(&asked.to_string())?;
        // There is one call at a time.
        loop {
            match line.next().await? {
                Told::ToolResult { ok, result, code } => return Ok((ok, result, code)),
                Told::Error { code } => return Ok((false, Value::Null, Some(code))),
                _ => {}
            }
        }
    };
    match timeout(within, answering).await {
        Err(_elapsed) => {
            call.timed_out();
            Err(Stop::Failed)
        }
        Ok(Err(error)) => {
            call.broken();
            Err(Stop::Broken(error))
        }
        Ok(Ok((ok, result, code))) => {
            if let Some(code) = code {
                context.tell_error(ErrorKind::ServerError(ServerCode::new(&code)));
            }
            let read = serde_json::from_value(result).ok().filter(|_| ok);
            call.answered(read.is_some());
            read.ok_or(Stop::Failed)
        }
    }
}
