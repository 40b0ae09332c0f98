import { between, type Fault } from '../fault.ts';

export const workerKilled: Fault = {
  name: 'worker-killed',
  title: 'workers are killed in the middle of batches, again and again',
  async run({ cluster, random, note }) {
    for (let i = 0; i < 3; i += 1) {
      const worker = random.pick(cluster.workers);
      note(`kill -9 of ${worker.name}`);
      await worker.kill();
      await between(random, 100, 800);
      await worker.start();
    }
  },
};

export const gatewayKilled: Fault = {
  name: 'gateway-killed',
  title: 'a gateway is killed with its sockets open',
  async run({ cluster, random, note }) {
    const { role } = random.pick(cluster.gateways);
    note(`kill -9 of ${role.name}`);
    await role.kill();
    await between(random, 500, 2_000);
    await role.start();
  },
};

export const gatewayDrained: Fault = {
  name: 'gateway-drained',
  title: 'a gateway is stopped by SIGTERM and started again',
  async run({ cluster, random, note }) {
    const { role } = random.pick(cluster.gateways);
    note(`SIGTERM to ${role.name}`);
    await role.stop();
    await role.start();
  },
};
