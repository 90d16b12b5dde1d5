//! PostgreSQL: one connection writes, a few read.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::batch::{self, Child, Owned, Part, Table};
use super::connections::{Connections, answered, within};
use super::rows::{self, read, reads};
use super::{Answered, Store, StoreError, schema};
use crate::record::{
    Answer, Interview, Participant, Record, RowId, Segment, Session, SurveyVersion, Track,
};

/// How long migrations may take, the wait for another process that migrates included.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// The lock of who migrates: any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x766d_7472_616e_7363;

pub(super) struct Postgres {
    writer: Connections<PgConnectOptions>,
    readers: Connections<PgConnectOptions>,
}

impl Postgres {
    pub(super) async fn open(url: &str, migrate: bool) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("voicematch")
            .disable_statement_logging();
        let store = Self {
            writer: Connections::new(options.clone(), 1, must_be_durable),
            readers: Connections::new(options, 4, |_| Box::pin(async { Ok(()) })),
        };
        // Not with the time for migrations: a server that hangs is to be told at once.
        let behind = answered(store.is_behind()).await?;
        if behind && !migrate {
            return Err(schema::must_be_migrated());
        }
        if behind {
            within(MIGRATION_TIMEOUT, store.migrate()).await?;
        }
        Ok(store)
    }

    async fn is_behind(&self) -> Result<bool, StoreError> {
        let mut taken = self.writer.take().await?;
        let behind = schema::is_behind(&mut taken.connection).await?;
        taken.give_back();
        Ok(behind)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin().await?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK);
        lock.execute(&mut *transaction).await?;
        let migrator =
            schema::migrator(include_str!("../../migrations/postgres/1_transcripts.sql"));
        schema::migrate(&migrator, &mut *transaction).await?;
        transaction.commit().await?;
        taken.give_back();
        Ok(())
    }

    async fn write(&self, records: &[Record]) -> Result<Vec<usize>, StoreError> {
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin().await?;
        let mut orphans = vec![];
        for part in batch::parts(records) {
            orphans.extend(write_part(&mut transaction, &part).await?);
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(orphans)
    }

    async fn delete_expired(&self, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin().await?;
        let mut deleted = 0;
        for sql in rows::EXPIRE {
            if deleted == 0 {
                let query = sqlx::query(sql).bind(before_ms).bind(i64::from(limit));
                deleted = query.execute(&mut *transaction).await?.rows_affected();
            }
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(deleted)
    }
}

impl Store for Postgres {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Answered<'a, Vec<usize>> {
        answered(self.write(batch))
    }

    fn expire(&self, before_ms: i64, limit: u32) -> Answered<'_, u64> {
        answered(self.delete_expired(before_ms, limit))
    }

    reads!();
}

/// A commit that has been answered survives a power failure, whatever the server's default is.
fn must_be_durable(connection: &mut PgConnection) -> Answered<'_, ()> {
    Box::pin(async {
        let sql = "SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'";
        sqlx::query(sql).execute(connection).await?;
        Ok(())
    })
}

async fn write_part(db: &mut PgConnection, part: &Part<'_>) -> Result<Vec<usize>, StoreError> {
    insert(db, &part.sessions, "").await?;
    insert(db, &part.surveys, "").await?;
    insert(db, &part.interviews, "").await?;
    let mut orphans = insert_children(db, &part.participants).await?;
    orphans.extend(insert_children(db, &part.tracks).await?);
    orphans.extend(insert_children(db, &part.segments).await?);
    orphans.extend(insert_children(db, &part.answers).await?);
    for record in &part.changes {
        batch::change!(record).execute(&mut *db).await?;
    }
    if !part.deleted.is_empty() {
        let query = sqlx::query("DELETE FROM sessions WHERE id = ANY($1)").bind(&part.deleted);
        query.execute(&mut *db).await?;
    }
    Ok(orphans)
}

/// Inserts the rows, each column as an array. Answers with how many were not there already.
async fn insert<T: Row>(db: &mut PgConnection, rows: &[&T], only: &str) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let arrays: Vec<String> = T::TYPES
        .iter()
        .enumerate()
        .map(|(place, kind)| format!("${}::{kind}[]", place + 1))
        .collect();
    let sql = format!(
        "INSERT INTO {} SELECT * FROM UNNEST({}) AS new (parent) {only} ON CONFLICT ({}) DO NOTHING",
        T::INTO,
        arrays.join(", "),
        T::KEY,
    );
    // Made of constants.
    let query = T::bind(rows, sqlx::query(AssertSqlSafe(sql)));
    Ok(query.execute(db).await?.rows_affected())
}

/// Inserts the rows whose owner is there, and answers with the places of the others.
async fn insert_children<T: Row + Owned>(
    db: &mut PgConnection,
    children: &[Child<'_, T>],
) -> Result<Vec<usize>, StoreError> {
    let rows: Vec<&T> = children.iter().map(|child| child.row).collect();
    let owner = T::OWNER;
    let only = format!("WHERE EXISTS (SELECT 1 FROM {owner} WHERE id = parent)");
    if insert(db, &rows, &only).await? == rows.len() as u64 {
        return Ok(vec![]);
    }
    let owners: Vec<i64> = batch::owners(children).into_iter().collect();
    let sql = format!("SELECT id FROM {owner} WHERE id = ANY($1)");
    let there: Vec<(i64,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(owners)
        .fetch_all(db)
        .await?;
    let there: HashSet<i64> = there.into_iter().map(|(id,)| id).collect();
    Ok(batch::orphans(children, &there))
}

type Statement<'a> = Query<'a, sqlx::Postgres, PgArguments>;

/// Rows whose columns go into a statement as arrays, in the order of [`Table::INTO`].
trait Row: Table {
    const TYPES: &'static [&'static str];
    fn bind<'a>(rows: &[&Self], statement: Statement<'a>) -> Statement<'a>;
}

macro_rules! row {
    ($row:ty, |$it:ident| $($kind:ident: $value:expr),*) => {
        impl Row for $row {
            const TYPES: &'static [&'static str] = &[$(stringify!($kind)),*];

            fn bind<'a>(rows: &[&Self], statement: Statement<'a>) -> Statement<'a> {
                statement$(.bind(rows.iter().map(|$it| $value).collect::<Vec<_>>()))*
            }
        }
    };
}

row!(Session, |it| bigint: it.id.0, text: &*it.slug, text: it.title.as_deref(), text: it.language.as_deref(),
    text: &*it.deliver, bool: it.open, bigint: it.created_ms, bigint: it.ended_ms);
row!(SurveyVersion, |it| text: &*it.id, bigint: it.version, text: &*it.definition);
row!(Interview, |it| bigint: it.id.0, text: &*it.survey_id, bigint: it.version, bigint: it.session_id.map(|id| id.0),
    text: it.respondent.as_deref(), text: &*it.language, bigint: it.started_ms, bigint: it.ended_ms);
row!(Participant, |it| bigint: it.session_id.0, bigint: it.id.0, text: &*it.user, text: it.name.as_deref(),
    text: &*it.role, bigint: it.joined_ms);
row!(Track, |it| bigint: it.session_id.0, bigint: it.id.0, bigint: it.participant_id.0, text: &*it.provider,
    text: it.provider_job.as_deref(), bigint: it.started_ms, bigint: it.audio_ms, bigint: it.ended_ms);
row!(Segment, |it| bigint: it.session_id.0, bigint: it.seq, bigint: it.track_id.0, text: it.kind.as_str(), text: &*it.source,
    bigint: it.start_ms, bigint: it.end_ms, text: it.language.as_deref(), float8: it.confidence, text: &*it.text,
    text: it.words.as_deref(), bigint: it.created_ms);
row!(Answer, |it| bigint: it.interview_id.0, text: &*it.question_id, bigint: it.revision, text: &*it.request_id,
    text: &*it.value, bigint: it.segment_seq, bigint: it.created_ms);
