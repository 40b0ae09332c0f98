import { Flags } from '@oclif/core';

/** Flags of every role for logs and metrics. Traces use the variables of OpenTelemetry: docs/telemetry.md. */
export const telemetryFlags = {
  'log-level': Flags.string({
    description: 'log level: trace, debug, info, warn, error, fatal or silent',
    env: 'FEEDCTL_LOG_LEVEL',
  }),
  'statsd-url': Flags.string({
    description:
      'URL of a StatsD server that gets the metrics every ten seconds, such as statsd://localhost:8125',
    env: 'FEEDCTL_STATSD_URL',
  }),
};
