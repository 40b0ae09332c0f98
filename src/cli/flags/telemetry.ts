import { Flags } from '@oclif/core';

/** Flags of every role for logs and metrics. The environment configures traces (docs/guides/telemetry.md). */
export const telemetryFlags = {
  'log-level': Flags.string({
    description: 'log level: trace, debug, info, warn, error, fatal or silent',
    env: 'FEEDCTL_LOG_LEVEL',
  }),
  'statsd-url': Flags.string({
    description:
      'send the metrics of /metrics to this server every ten seconds, e.g. statsd://localhost:8125',
    env: 'FEEDCTL_STATSD_URL',
  }),
};
