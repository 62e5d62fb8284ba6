-- As levity wrote it at schema version 1, which had no account of logs: iterdump() of a registry.db, and its pragmas.
BEGIN TRANSACTION;
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    over INTEGER NOT NULL,
    spec TEXT NOT NULL,
    outcome TEXT,
    crc INTEGER NOT NULL
);
INSERT INTO "tasks" VALUES('00000007-5555-4555-8555-555555555555',1,'{"id": "00000007-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 0"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000000, "stdin": false, "merged": false, "log_cap": 1073741824}','{"state": "Finished", "exit_code": 3, "ended_ns": 1700000000500000000, "stored_bytes": 70}',3891989201);
INSERT INTO "tasks" VALUES('00000003-5555-4555-8555-555555555555',0,'{"id": "00000003-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 1"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000001, "stdin": false, "merged": false, "log_cap": 1073741824}',NULL,2989620506);
INSERT INTO "tasks" VALUES('00000009-5555-4555-8555-555555555555',1,'{"id": "00000009-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 2"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000002, "stdin": false, "merged": false, "log_cap": 1073741824}','{"state": "InternalServerError", "ended_ns": 1700000000400000000, "stored_bytes": 30}',178818464);
INSERT INTO "tasks" VALUES('00000001-5555-4555-8555-555555555555',0,'{"id": "00000001-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 3"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000003, "stdin": false, "merged": false, "log_cap": 1073741824, "owner": "alice"}',NULL,1619767829);
CREATE INDEX live_tasks ON tasks (id) WHERE over = 0;
COMMIT;
PRAGMA application_id=1818588777;
PRAGMA user_version=1;
