import { Flags } from '@oclif/core';

/** What every role lets one say about logs and figures. Traces have the standard's own variables: docs/telemetry.md. */
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
