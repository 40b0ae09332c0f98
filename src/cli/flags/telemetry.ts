import { Flags } from '@oclif/core';

/** Flags of every role for logs and metrics. The environment configures traces (docs/guides/telemetry.md). */
export const telemetryFlags = {
  'log-level': Flags.string({
    description:
      'trace, debug, info, warn, error, fatal or silent; `debug` has a line for each step of a post',
    env: 'FEEDCTL_LOG_LEVEL',
  }),
  'statsd-url': Flags.string({
    description:
      'send the metrics of /metrics to this server every ten seconds, e.g. statsd://localhost:8125',
    env: 'FEEDCTL_STATSD_URL',
  }),
};
