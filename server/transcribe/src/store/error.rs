//! What an error of a database means for the record that was to be written.

use std::error::Error as _;

use sqlx::sqlite::SqliteError;

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) => {
                let code = refused.code().unwrap_or_default();
                let message = format!("{} ({code})", refused.message());
                if refused.try_downcast_ref::<SqliteError>().is_some() {
                    of_sqlite(code.parse().unwrap_or(0), message)
                } else {
                    of_sqlstate(&code, message)
                }
            }
            // What is wrong with a URL is not repeated: it may contain the password.
            sqlx::Error::Configuration(_) => {
                Self::Misconfigured("its URL has a part that is not understood".to_owned())
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::TypeNotFound { .. } => Self::Misconfigured(error.to_string()),
            sqlx::Error::Tls(_) => match error.source() {
                Some(source) => Self::Temporary(format!("TLS: {source}")),
                None => Self::Temporary(error.to_string()),
            },
            _ => Self::Temporary(error.to_string()),
        }
    }
}

/// SQLite's result codes: <https://www.sqlite.org/rescode.html>.
fn of_sqlite(extended: i32, message: String) -> StoreError {
    match extended & 0xff {
        13 => StoreError::Full(message),
        // Too big, a constraint, a value of the wrong type.
        18..=20 => StoreError::Rejected(message),
        // Out of memory, locked, interrupted, read-only, a failure of the disk, cannot be opened, a schema that has changed.
        4..=10 | 14 | 15 | 17 => StoreError::Temporary(message),
        // Wrong SQL for this schema, no permission, a damaged file, no database at all.
        _ => StoreError::Misconfigured(message),
    }
}

/// SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_sqlstate(code: &str, message: String) -> StoreError {
    if code == "53100" {
        return StoreError::Full(message);
    }
    match code.get(..2) {
        // A value that does not fit, a constraint, a value too long for an index.
        Some("22" | "23" | "54") => StoreError::Rejected(message),
        // Who may log in, which database there is, which tables it has, what may be done with them.
        Some("28" | "3D" | "3F" | "42" | "0A") => StoreError::Misconfigured(message),
        // Connections, 25006 read-only after a failover, deadlocks, resources, an operator's action, and what nobody has thought of.
        _ => StoreError::Temporary(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_postgresql() {
        let of = |code: &str| of_sqlstate(code, String::new());
        for code in [
            "08006", "25006", "40001", "40P01", "53300", "57P01", "57014", "58030", "",
        ] {
            assert!(matches!(of(code), StoreError::Temporary(_)), "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42P01", "42501"] {
            assert!(matches!(of(code), StoreError::Misconfigured(_)), "{code}");
        }
        for code in ["22021", "23505", "54000"] {
            assert!(matches!(of(code), StoreError::Rejected(_)), "{code}");
        }
        assert!(matches!(of("53100"), StoreError::Full(_)));
    }

    #[test]
    fn codes_of_sqlite() {
        let of = |code| of_sqlite(code, String::new());
        // Busy, busy snapshot (517), read-only after a failed recovery (264), a failed write (778).
        for code in [5, 517, 264, 778, 14] {
            assert!(matches!(of(code), StoreError::Temporary(_)), "{code}");
        }
        // A broken unique key (2067), a broken foreign key (787).
        for code in [18, 19, 2067, 787] {
            assert!(matches!(of(code), StoreError::Rejected(_)), "{code}");
        }
        assert!(matches!(of(13), StoreError::Full(_)));
        for code in [1, 11, 26] {
            assert!(matches!(of(code), StoreError::Misconfigured(_)), "{code}");
        }
    }
}
