-- Where clients reach that process; empty: it has not said.
ALTER TABLE session_owners ADD COLUMN url TEXT NOT NULL DEFAULT '';
