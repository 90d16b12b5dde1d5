//! PostgreSQL: one connection writes, a few read.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::batch::{self, Child, Inserted, Owned, Part, Table};
use super::connections::{Connections, answered, within};
use super::rows::{self, read, reads};
use super::{Answered, Held, LEASE, Old, Owner, Progress, Store, StoreError, schema};
use crate::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
    SurveyVersion, Track,
};

/// How long migrations may take, the wait for another process that migrates included.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// The lock of who migrates: any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x766d_7472_616e_7363;

/// The clock, in milliseconds since 1970.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

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
        let migrator = schema::migrator(schema::migrations!("postgres"));
        schema::migrate(&migrator, &mut *transaction).await?;
        transaction.commit().await?;
        taken.give_back();
        Ok(())
    }

    async fn write(&self, records: &[Record]) -> Result<Vec<usize>, StoreError> {
        let mut taken = self.writer.take().await?;
        let parts = batch::parts(records);
        let is_said = |record| matches!(record, &Record::Segment(_) | &Record::Answer(_));
        if let [part] = &*parts
            && records.iter().all(is_said)
            && write_said(&mut taken.connection, part).await?
        {
            taken.give_back();
            return Ok(vec![]);
        }
        let mut transaction = taken.connection.begin().await?;
        let mut orphans = vec![];
        for part in &parts {
            orphans.extend(write_part(&mut transaction, part).await?);
        }
        transaction.commit().await?;
        taken.give_back();
        Ok(orphans)
    }

    async fn hold_all(&self, owner: &Owner, ids: &[RowId]) -> Result<Held, StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let lease = LEASE.as_millis();
        let sql = format!(
            "INSERT INTO session_owners (session_id, owner, until_ms, url) \
             SELECT id, $1, {NOW} + {lease}, $3 FROM sessions WHERE id = ANY($2) ORDER BY id ON CONFLICT (session_id) \
             DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms, url = excluded.url \
             WHERE session_owners.owner = excluded.owner OR session_owners.until_ms < {NOW}"
        );
        let mut taken = self.writer.take().await?;
        let mut transaction = taken.connection.begin().await?;
        // They stay this one's until it is known that they do.
        let before = "SELECT session_id FROM session_owners WHERE owner = $1 AND session_id = ANY($2) \
                      ORDER BY session_id FOR UPDATE";
        let query = sqlx::query_as(before).bind(owner.id.0).bind(&ids);
        let before: Vec<(i64,)> = query.fetch_all(&mut *transaction).await?;
        // Made of constants.
        let query = sqlx::query(AssertSqlSafe(sql)).bind(owner.id.0);
        let query = query.bind(&ids).bind(&owner.url);
        query.execute(&mut *transaction).await?;
        let after = "SELECT session_id, owner, url FROM session_owners WHERE session_id = ANY($1)";
        let after = sqlx::query_as(after).bind(&ids);
        let after = after.fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        taken.give_back();
        Ok(rows::held(owner.id, &before, after))
    }

    async fn owner_of(&self, id: RowId) -> Result<Option<Owner>, StoreError> {
        let sql = format!(
            "SELECT owner, url FROM session_owners WHERE session_id = $1 AND until_ms >= {NOW}"
        );
        let mut taken = self.readers.take().await?;
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(id.0);
        let owner = query.fetch_optional(&mut taken.connection).await?;
        taken.give_back();
        Ok(owner.map(rows::owner))
    }

    async fn let_all_go(&self, owner: RowId, ids: &[RowId]) -> Result<(), StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let mut taken = self.writer.take().await?;
        let sql = "DELETE FROM session_owners WHERE owner = $1 AND session_id = ANY($2)";
        let query = sqlx::query(sql).bind(owner.0).bind(&ids);
        query.execute(&mut taken.connection).await?;
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
        let mut transaction = taken.connection.begin().await?;
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

impl Store for Postgres {
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
        true
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

/// Writes segments and answers, the most of what comes, in one round trip: a statement commits by itself. `false` if it wrote none,
/// as one is there already, belongs to nothing, or is refused: then a transaction has to find out which.
async fn write_said(db: &mut PgConnection, part: &Part<'_>) -> Result<bool, StoreError> {
    let segments: Vec<_> = part.segments.iter().map(|child| child.row).collect();
    let answers: Vec<_> = part.answers.iter().map(|child| child.row).collect();
    let sql = format!(
        "WITH said AS (INSERT INTO {} SELECT * FROM {}) INSERT INTO {} SELECT * FROM {}",
        Segment::INTO,
        arrays::<Segment>(0),
        Answer::INTO,
        arrays::<Answer>(Segment::TYPES.len()),
    );
    // Made of constants.
    let query = Segment::bind(&segments, sqlx::query(AssertSqlSafe(sql)));
    let done = Answer::bind(&answers, query).execute(db).await;
    match done.map_err(StoreError::from) {
        Ok(_) => Ok(true),
        Err(StoreError::Rejected(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn write_part(db: &mut PgConnection, part: &Part<'_>) -> Result<Vec<usize>, StoreError> {
    insert(db, &part.sessions, "").await?;
    insert(db, &part.surveys, "").await?;
    insert(db, &part.interviews, "").await?;
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
    let sql = format!(
        "INSERT INTO {} SELECT * FROM {} AS new (parent) {only} ON CONFLICT ({}) DO NOTHING",
        T::INTO,
        arrays::<T>(0),
        T::KEY,
    );
    // Made of constants.
    let query = T::bind(rows, sqlx::query(AssertSqlSafe(sql)));
    Ok(query.execute(db).await?.rows_affected())
}

/// Rows made of arrays, one for each column, which are bound after `before` other values.
fn arrays<T: Row>(before: usize) -> String {
    let columns = T::TYPES.iter().zip(before + 1..);
    let arrays: Vec<_> = columns
        .map(|(kind, place)| format!("${place}::{kind}[]"))
        .collect();
    format!("UNNEST({})", arrays.join(", "))
}

/// Inserts the rows whose owner is there.
async fn insert_children<T: Row + Owned>(
    db: &mut PgConnection,
    children: &[Child<'_, T>],
) -> Result<Inserted, StoreError> {
    let mut inserted = Inserted::default();
    let rows: Vec<&T> = children.iter().map(|child| child.row).collect();
    let owner = T::OWNER;
    let only = format!("WHERE EXISTS (SELECT 1 FROM {owner} WHERE id = parent)");
    let affected = insert(db, &rows, &only).await?;
    if affected == rows.len() as u64 {
        return Ok(inserted);
    }
    let owners: Vec<i64> = batch::owners(children).into_iter().collect();
    let sql = format!("SELECT id FROM {owner} WHERE id = ANY($1)");
    let there: Vec<(i64,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(owners)
        .fetch_all(db)
        .await?;
    let there: HashSet<i64> = there.into_iter().map(|(id,)| id).collect();
    inserted.add(children, &there, affected);
    Ok(inserted)
}

/// Whether the segments that have these numbers are these.
async fn check_segments(
    db: &mut PgConnection,
    rows: &[Child<'_, Segment>],
) -> Result<(), StoreError> {
    let sessions: Vec<_> = rows.iter().map(|child| child.row.session_id.0).collect();
    let numbers: Vec<_> = rows.iter().map(|child| child.row.seq).collect();
    let sql = format!(
        "{} JOIN UNNEST($1::bigint[], $2::bigint[]) AS these (s, n) ON session_id = s AND seq = n",
        batch::NUMBERED
    );
    let query = sqlx::query_as(AssertSqlSafe(sql))
        .bind(sessions)
        .bind(numbers);
    batch::check_segments(rows, query.fetch_all(db).await?)
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
    bigint: it.started_ms, bigint: it.audio_ms, bigint: it.ended_ms);
row!(ProviderJob, |it| bigint: it.track_id.0, text: &*it.job, bigint: it.start_ms);
row!(JobPiece, |it| bigint: it.track_id.0, bigint: it.number, text: &*it.job, bigint: it.job_ms, bigint: it.start_ms);
row!(Segment, |it| bigint: it.session_id.0, bigint: it.seq, bigint: it.track_id.0, text: it.kind.as_str(), text: &*it.source,
    bigint: it.start_ms, bigint: it.end_ms, text: it.language.as_deref(), float8: it.confidence, text: &*it.text,
    text: it.words.as_deref(), bigint: it.created_ms);
row!(Answer, |it| bigint: it.interview_id.0, text: &*it.question_id, bigint: it.revision, text: &*it.request_id,
    text: &*it.value, bigint: it.segment_seq, bigint: it.created_ms);
