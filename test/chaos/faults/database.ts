import { between, type Fault } from '../fault.ts';

export const databaseRestarted: Fault = {
  name: 'database-restarted',
  title: 'the database ends without a checkpoint and starts again',
  async run({ cluster, random, note }) {
    const how = random.pick(['crash', 'stop'] as const);
    note(`${how} of PostgreSQL`);
    await cluster.database.restart(how);
  },
};

export const databaseFailedOver: Fault = {
  name: 'database-failed-over',
  title: 'the database fails over to its synchronous standby',
  async run({ cluster, note }) {
    await cluster.database.failOver();
    note('the standby is the primary');
    await cluster.database.rebuildStandby();
  },
};

export const commitsLost: Fault = {
  name: 'commits-lost',
  title: 'the database fails over to a standby that lacks the last commits',
  async run({ cluster, random, history, now, note }) {
    const from = now();
    await cluster.database.detachStandby();
    note('the standby receives nothing more');
    await between(random, 500, 1_500);
    await cluster.database.failOver();
    history.mayLose.push({ from, to: now() });
    note('the standby is the primary, and lacks commits');
    await cluster.database.rebuildStandby();
  },
};
