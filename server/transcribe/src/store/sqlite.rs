//! SQLite: one file, one process that writes.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::query_builder::Separated;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder};

use super::batch::{self, Child, Inserted, Owned, Part, Table};
use super::connections::{Connections, answered, within};
use super::rows::{self, read, reads};
use super::{Answered, Held, LEASE, Old, Owner, Progress, Store, StoreError, schema};
use crate::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
    SurveyVersion, Track,
};

/// How long a statement waits for a lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long migrations may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Rows of an insert: 12 columns each, of 32,766 values that SQLite takes.
const ROWS: usize = 1_000;

pub(super) struct Sqlite {
    writer: Connections<SqliteConnectOptions>,
    readers: Connections<SqliteConnectOptions>,
}

/// The clock, in milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

type Values<'a> = Separated<'a, sqlx::Sqlite, &'static str>;

impl Sqlite {
    /// `path` may end with `?max_page_count=N`.
    pub(super) async fn open(path: &str, migrate: bool) -> Result<Self, StoreError> {
        let (path, pages) = match path.split_once("?max_page_count=") {
            Some((path, pages)) => (
                path,
                Some(pages.parse::<u32>().map_err(|_| {
                    StoreError::Misconfigured("max_page_count has to be a number".to_owned())
                })?),
            ),
            None => (path, None),
        };
        if path.is_empty() || path == ":memory:" {
            let why = "SQLite needs a file: sqlite:PATH";
            return Err(StoreError::Misconfigured(why.to_owned()));
        }
        // Transcripts are nobody else's: SQLite gives its other files the rights of this one. It is closed here: closed
        // later, it would take SQLite's locks with it (POSIX), and who closes the file elsewhere would delete the WAL.
        let made = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map(drop);
        // One that may only be read is SQLite's to judge.
        if let Err(error) = made
            && !Path::new(path).exists()
        {
            let why = format!("{path} cannot be made: {error}");
            return Err(StoreError::Misconfigured(why));
        }
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Without it nothing goes when its session goes; SQLite has it off, for each connection.
            .foreign_keys(true)
            // What was deleted is nowhere in the file any more: pages that are free keep it otherwise.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        if let Some(pages) = pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let store = Self {
            writer: Connections::new(options.clone(), 1, |_| Box::pin(async { Ok(()) })),
            readers: Connections::new(options, 4, |_| Box::pin(async { Ok(()) })),
        };
        within(MIGRATION_TIMEOUT, store.prepare(migrate)).await?;
        Ok(store)
    }

    async fn prepare(&self, migrate: bool) -> Result<(), StoreError> {
        let mut taken = self.writer.take().await?;
        if schema::is_behind(&mut taken.connection).await? {
            if !migrate {
                return Err(schema::must_be_migrated());
            }
            let migrator = schema::migrator(schema::migrations!("sqlite"));
            // Two processes may start at once: the second one waits, and finds nothing to do.
            let mut transaction = taken.connection.begin_with("BEGIN IMMEDIATE").await?;
            schema::migrate(&migrator, &mut *transaction).await?;
            transaction.commit().await?;
        }
        taken.give_back();
        Ok(())
    }

    async fn write(&self, records: &[Record]) -> Result<Vec<usize>, StoreError> {
        let mut taken = self.writer.take().await?;
        // A deferred transaction that reads first fails at once when another process has written.
        let mut transaction = taken.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut orphans = vec![];
        for part in batch::parts(records) {
            orphans.extend(write_part(&mut transaction, &part).await?);
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(orphans)
    }

    async fn hold_all(&self, owner: &Owner, ids: &[RowId]) -> Result<Held, StoreError> {
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut held = Held::default();
        for ids in ids.chunks(ROWS) {
            let mut sql = QueryBuilder::new("SELECT session_id FROM session_owners WHERE owner = ");
            sql.push_bind(owner.id.0).push(" AND session_id IN (");
            push_ids(&mut sql, ids);
            sql.push(")");
            let query = sql.build_query_as().persistent(false);
            let before: Vec<(i64,)> = query.fetch_all(&mut *transaction).await?;
            let mut sql = QueryBuilder::new(
                "INSERT INTO session_owners (session_id, owner, until_ms, url) SELECT id, ",
            );
            sql.push_bind(owner.id.0);
            sql.push(format_args!(", {NOW} + {}, ", LEASE.as_millis()));
            sql.push_bind(&owner.url);
            sql.push(" FROM sessions WHERE id IN (");
            push_ids(&mut sql, ids);
            sql.push(format_args!(
                ") ON CONFLICT (session_id) \
                 DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms, url = excluded.url \
                 WHERE session_owners.owner = excluded.owner OR session_owners.until_ms < {NOW}"
            ));
            let query = sql.build().persistent(false);
            query.execute(&mut *transaction).await?;
            let mut sql = QueryBuilder::new(
                "SELECT session_id, owner, url FROM session_owners WHERE session_id IN (",
            );
            push_ids(&mut sql, ids);
            sql.push(")");
            let query = sql.build_query_as().persistent(false);
            let after = query.fetch_all(&mut *transaction).await?;
            let of_these = rows::held(owner.id, &before, after);
            held.elsewhere.extend(of_these.elsewhere);
            held.taken.extend(of_these.taken);
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(held)
    }

    async fn owner_of(&self, id: RowId) -> Result<Option<Owner>, StoreError> {
        let mut sql =
            QueryBuilder::new("SELECT owner, url FROM session_owners WHERE session_id = ");
        sql.push_bind(id.0);
        sql.push(format_args!(" AND until_ms >= {NOW}"));
        let mut taken = self.readers.take().await?;
        let query = sql.build_query_as();
        let owner = query.fetch_optional(&mut taken.connection).await?;
        taken.give_back();
        Ok(owner.map(rows::owner))
    }

    async fn let_all_go(&self, owner: RowId, ids: &[RowId]) -> Result<(), StoreError> {
        let mut taken = self.writer.take().await?;
        for ids in ids.chunks(ROWS) {
            let mut sql = QueryBuilder::new("DELETE FROM session_owners WHERE owner = ");
            sql.push_bind(owner.0).push(" AND session_id IN (");
            push_ids(&mut sql, ids);
            sql.push(")");
            let query = sql.build().persistent(false);
            query.execute(&mut taken.connection).await?;
        }
        taken.give_back();
        Ok(())
    }

    async fn release_all(&self, owner: RowId) -> Result<(), StoreError> {
        let mut taken = self.writer.take().await?;
        let query = sqlx::query(rows::RELEASE).bind(owner.0);
        query.execute(&mut taken.connection).await?;
        taken.give_back();
        Ok(())
    }

    async fn delete_expired(&self, old: Old, limit: u32) -> Result<u64, StoreError> {
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut deleted = 0;
        for sql in rows::EXPIRE {
            if deleted == 0 {
                let query = sqlx::query(sql)
                    .bind(old.ended_before)
                    .bind(old.unused_since)
                    .bind(i64::from(limit));
                deleted = query.execute(&mut *transaction).await?.rows_affected();
            }
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(deleted)
    }
}

impl Store for Sqlite {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Answered<'a, Vec<usize>> {
        answered(self.write(batch))
    }

    fn expire(&self, old: Old, limit: u32) -> Answered<'_, u64> {
        answered(self.delete_expired(old, limit))
    }

    fn hold<'a>(&'a self, owner: &'a Owner, sessions: &'a [RowId]) -> Answered<'a, Held> {
        answered(self.hold_all(owner, sessions))
    }

    fn owner(&self, session: RowId) -> Answered<'_, Option<Owner>> {
        answered(self.owner_of(session))
    }

    fn release(&self, owner: RowId) -> Answered<'_, ()> {
        answered(self.release_all(owner))
    }

    fn let_go<'a>(&'a self, owner: RowId, sessions: &'a [RowId]) -> Answered<'a, ()> {
        answered(self.let_all_go(owner, sessions))
    }

    fn is_shared(&self) -> bool {
        false
    }

    reads!();
}

fn push_ids(sql: &mut QueryBuilder<sqlx::Sqlite>, ids: &[RowId]) {
    let mut list = sql.separated(", ");
    for id in ids {
        list.push_bind(id.0);
    }
}

async fn write_part(db: &mut SqliteConnection, part: &Part<'_>) -> Result<Vec<usize>, StoreError> {
    insert(db, &part.sessions).await?;
    insert(db, &part.surveys).await?;
    insert(db, &part.interviews).await?;
    let mut orphans = insert_children(db, &part.participants).await?.orphans;
    orphans.extend(insert_children(db, &part.tracks).await?.orphans);
    orphans.extend(insert_children(db, &part.jobs).await?.orphans);
    orphans.extend(insert_children(db, &part.job_pieces).await?.orphans);
    let segments = insert_children(db, &part.segments).await?;
    orphans.extend(segments.orphans);
    if segments.known {
        check_segments(db, &part.segments).await?;
    }
    orphans.extend(insert_children(db, &part.answers).await?.orphans);
    for record in &part.changes {
        batch::change!(record).execute(&mut *db).await?;
    }
    for id in &part.deleted {
        let query = sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id);
        query.execute(&mut *db).await?;
    }
    Ok(orphans)
}

async fn insert<T: Row>(db: &mut SqliteConnection, rows: &[&T]) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut sql = QueryBuilder::new(format!("INSERT INTO {} ", T::INTO));
        sql.push_values(rows, |mut values, row| row.bind(&mut values));
        sql.push(format_args!(" ON CONFLICT ({}) DO NOTHING", T::KEY));
        // A statement for each number of rows is nothing to keep.
        sql.build().persistent(false).execute(&mut *db).await?;
    }
    Ok(())
}

/// Inserts the rows whose owner is there.
async fn insert_children<T: Row + Owned>(
    db: &mut SqliteConnection,
    rows: &[Child<'_, T>],
) -> Result<Inserted, StoreError> {
    let mut inserted = Inserted::default();
    for rows in rows.chunks(ROWS) {
        let mut sql = QueryBuilder::new(format!("INSERT INTO {} SELECT * FROM (", T::INTO));
        sql.push_values(rows, |mut values, child| child.row.bind(&mut values));
        let (owner, key) = (T::OWNER, T::KEY);
        sql.push(format_args!(
            ") WHERE EXISTS (SELECT 1 FROM {owner} WHERE id = column1) ON CONFLICT ({key}) DO NOTHING"
        ));
        let done = sql.build().persistent(false).execute(&mut *db).await?;
        if done.rows_affected() < rows.len() as u64 {
            inserted.add(
                rows,
                &those_there::<T>(db, rows).await?,
                done.rows_affected(),
            );
        }
    }
    Ok(inserted)
}

/// Whether the segments that have these numbers are these.
async fn check_segments(
    db: &mut SqliteConnection,
    rows: &[Child<'_, Segment>],
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut sql = QueryBuilder::new(batch::NUMBERED);
        sql.push(" WHERE (session_id, seq) IN (");
        sql.push_values(rows, |mut values, child| {
            values
                .push_bind(child.row.session_id.0)
                .push_bind(child.row.seq);
        });
        sql.push(")");
        let found = sql
            .build_query_as()
            .persistent(false)
            .fetch_all(&mut *db)
            .await?;
        batch::check_segments(rows, found)?;
    }
    Ok(())
}

async fn those_there<T: Owned>(
    db: &mut SqliteConnection,
    rows: &[Child<'_, T>],
) -> Result<HashSet<i64>, StoreError> {
    let mut sql = QueryBuilder::new(format!("SELECT id FROM {} WHERE id IN (", T::OWNER));
    let mut ids = sql.separated(", ");
    for id in batch::owners(rows) {
        ids.push_bind(id);
    }
    sql.push(")");
    let there: Vec<(i64,)> = sql.build_query_as().persistent(false).fetch_all(db).await?;
    Ok(there.into_iter().map(|(id,)| id).collect())
}

/// A row whose values go into a statement in the order of [`Table::INTO`].
trait Row: Table {
    fn bind(&self, values: &mut Values<'_>);
}

macro_rules! row {
    ($row:ty, |$it:ident| $($value:expr),*) => {
        impl Row for $row {
            fn bind(&self, values: &mut Values<'_>) {
                let $it = self;
                values$(.push_bind($value))*;
            }
        }
    };
}

row!(
    Session,
    |it| it.id.0,
    &it.slug,
    &it.title,
    &it.language,
    &it.deliver,
    it.open,
    it.created_ms,
    it.ended_ms
);
row!(SurveyVersion, |it| &it.id, it.version, &it.definition);
row!(
    Interview,
    |it| it.id.0,
    &it.survey_id,
    it.version,
    it.session_id.map(|id| id.0),
    &it.respondent,
    &it.language,
    it.started_ms,
    it.ended_ms
);
row!(
    Participant,
    |it| it.session_id.0,
    it.id.0,
    &it.user,
    &it.name,
    &it.role,
    it.joined_ms
);
row!(
    Track,
    |it| it.session_id.0,
    it.id.0,
    it.participant_id.0,
    &it.provider,
    it.started_ms,
    it.audio_ms,
    it.ended_ms
);
row!(ProviderJob, |it| it.track_id.0, &it.job, it.start_ms);
row!(
    JobPiece,
    |it| it.track_id.0,
    it.number,
    &it.job,
    it.job_ms,
    it.start_ms
);
row!(
    Segment,
    |it| it.session_id.0,
    it.seq,
    it.track_id.0,
    it.kind.as_str(),
    &it.source,
    it.start_ms,
    it.end_ms,
    &it.language,
    it.confidence,
    &it.text,
    &it.words,
    it.created_ms
);
row!(
    Answer,
    |it| it.interview_id.0,
    &it.question_id,
    it.revision,
    &it.request_id,
    &it.value,
    it.segment_seq,
    it.created_ms
);
