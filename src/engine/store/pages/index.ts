import type { Store } from '../../database/sharding.ts';
import { citusPages } from './citus.ts';
import { postgresPages } from './postgres.ts';
import type { FeedPages } from './types.ts';

export type { PageQuery, PageRow } from './types.ts';

const VARIANTS = { postgres: postgresPages, citus: citusPages };

/** Returns the statements for the kind of this database. */
export const feedPages = async (db: Store): Promise<FeedPages> => (await db.sharding()).pick(VARIANTS);
