import { between, type Fault } from '../fault.ts';

export const rollingUpgrade: Fault = {
  name: 'rolling-upgrade',
  title: 'roles of the previous release are replaced by new ones, one after the other',
  needs: 'previous release',
  async run({ cluster, random, note }) {
    note('feedctl migrate, of the new release');
    cluster.upgrade();
    await cluster.json('migrate');
    // An old role may have to start again where its machine fails before its turn.
    const again = random.pick(cluster.workers);
    note(`kill -9 of ${again.name}, still of the previous release`);
    await again.kill();
    await again.start();
    for (const role of cluster.roles) {
      note(`${role.name} is replaced`);
      await role.stop();
      role.binary = undefined;
      await role.start();
      await between(random, 300, 1_500);
    }
  },
};
