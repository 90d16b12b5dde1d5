//! The schema, which is part of the program.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;

/// Where it is written down which migrations have been applied: a name of our own, since the database may be the app's.
const TABLE: &str = "voicematch_migrations";

/// What the migrations are for, in their order; their files are named so, too.
const NAMES: [&str; 5] = [
    "transcripts",
    "owners_and_jobs",
    "owners_urls",
    "spent",
    "job_pieces",
];

/// The version that this program reads and writes.
const VERSION: i64 = NAMES.len() as i64;

/// The files of the migrations of a database (`sqlite`, `postgres`).
macro_rules! migrations {
    ($database:literal) => {
        [
            include_str!(concat!(
                "../../migrations/",
                $database,
                "/1_transcripts.sql"
            )),
            include_str!(concat!(
                "../../migrations/",
                $database,
                "/2_owners_and_jobs.sql"
            )),
            include_str!(concat!(
                "../../migrations/",
                $database,
                "/3_owners_urls.sql"
            )),
            include_str!(concat!("../../migrations/", $database, "/4_spent.sql")),
            include_str!(concat!("../../migrations/", $database, "/5_job_pieces.sql")),
        ]
    };
}
pub(super) use migrations;

pub(super) fn migrator(files: [&'static str; NAMES.len()]) -> Migrator {
    let migrations = (1..).zip(NAMES).zip(files).map(|((version, name), file)| {
        let file = file.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, file, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    // The transaction around it holds a lock.
    migrator.set_locking(false);
    migrator
}

/// Whether migrations are missing. A schema that is newer than the program is refused.
pub(super) async fn is_behind(connection: &mut impl Migrate) -> Result<bool, StoreError> {
    let applied = match connection.list_applied_migrations(TABLE).await {
        Ok(applied) => applied,
        Err(error) => match refused(error) {
            // The table is not there.
            StoreError::Misconfigured(_) => return Ok(true),
            error => return Err(error),
        },
    };
    let found = applied.iter().map(|one| one.version).max().unwrap_or(0);
    if found > VERSION {
        return Err(newer(found));
    }
    Ok(found < VERSION)
}

/// Applies what is missing.
pub(super) async fn migrate(
    migrator: &Migrator,
    connection: &mut impl Migrate,
) -> Result<(), StoreError> {
    let done = migrator.run_direct(None, connection, false).await;
    done.map_err(refused)
}

/// For who has switched migrations off.
pub(super) fn must_be_migrated() -> StoreError {
    StoreError::Misconfigured(format!(
        "its schema is older than version {VERSION}, and migrations are off: start once with them"
    ))
}

fn newer(found: i64) -> StoreError {
    StoreError::Misconfigured(format!(
        "its schema has version {found}, this program knows versions up to {VERSION}: use the newer program"
    ))
}

fn refused(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(found) => newer(found),
        error => StoreError::Misconfigured(error.to_string()),
    }
}
