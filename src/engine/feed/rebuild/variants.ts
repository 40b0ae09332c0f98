import type { Sharding } from '../../database/sharding.ts';
import { citusRebuild } from './citus.ts';
import { postgresRebuild } from './postgres.ts';
import type { RebuildVariant } from './variant.ts';

const VARIANTS = { postgres: postgresRebuild, citus: citusRebuild };

export const rebuildVariant = (sharding: Sharding): RebuildVariant => sharding.pick(VARIANTS);
