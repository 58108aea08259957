-- The epoch of the store, in one row, as in the claims of the tokens it issues. A
-- restored backup continues in another one.
CREATE TABLE identity_epoch (
	one   BIGINT PRIMARY KEY,
	epoch BIGINT NOT NULL,
	CONSTRAINT identity_epoch_one_check CHECK (one = 1)
) {{strict}};

INSERT INTO identity_epoch (one, epoch) VALUES (1, 1);
