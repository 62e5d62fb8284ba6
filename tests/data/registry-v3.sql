-- As levity writes it at schema version 3: iterdump() of a registry.db, and its pragmas.
BEGIN TRANSACTION;
CREATE TABLE logs (
    id TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    proof INTEGER NOT NULL
);
INSERT INTO "logs" VALUES('00000007-5555-4555-8555-555555555555',70,1700000000500000000,1700000000500000070);
INSERT INTO "logs" VALUES('00000009-5555-4555-8555-555555555555',30,1700000000400000000,1700000000400000030);
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    over INTEGER NOT NULL,
    spec TEXT NOT NULL,
    outcome TEXT,
    crc INTEGER NOT NULL,
    owner TEXT NOT NULL DEFAULT ''
);
INSERT INTO "tasks" VALUES('00000007-5555-4555-8555-555555555555',1,'{"id": "00000007-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 0"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000000, "stdin": false, "merged": false, "log_cap": 1073741824}','{"state": "Finished", "exit_code": 3, "ended_ns": 1700000000500000000, "stored_bytes": 70}',3891989201,'');
INSERT INTO "tasks" VALUES('00000003-5555-4555-8555-555555555555',0,'{"id": "00000003-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 1"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000001, "stdin": false, "merged": false, "log_cap": 1073741824}',NULL,2989620506,'');
INSERT INTO "tasks" VALUES('00000009-5555-4555-8555-555555555555',1,'{"id": "00000009-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 2"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000002, "stdin": false, "merged": false, "log_cap": 1073741824}','{"state": "InternalServerError", "ended_ns": 1700000000400000000, "stored_bytes": 30}',178818464,'');
INSERT INTO "tasks" VALUES('00000001-5555-4555-8555-555555555555',0,'{"id": "00000001-5555-4555-8555-555555555555", "argv": ["echo", "h\u00e9llo 3"], "cwd": "/tmp", "env": {"A": "b"}, "grace_s": 5.0, "accepted_ns": 1700000000000000003, "stdin": false, "merged": false, "log_cap": 1073741824, "owner": "alice"}',NULL,1619767829,'alice');
CREATE INDEX live_tasks ON tasks (over) WHERE over = 0;
CREATE INDEX owners_tasks ON tasks (owner);
CREATE INDEX owners_live_tasks ON tasks (owner) WHERE over = 0;
CREATE INDEX owners_ids ON tasks (owner, id);
CREATE INDEX oldest_logs ON logs (ended_ns);
COMMIT;
PRAGMA application_id=1818588777;
PRAGMA user_version=3;
