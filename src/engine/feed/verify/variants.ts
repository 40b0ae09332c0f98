import type { Sharding } from '../../database/sharding.ts';
import { citusVerify } from './citus.ts';
import { postgresVerify } from './postgres.ts';
import type { VerifyVariant } from './variant.ts';

const VARIANTS = { postgres: postgresVerify, citus: citusVerify };

export const verifyVariant = (sharding: Sharding): VerifyVariant => sharding.pick(VARIANTS);
