/** Settings of a process without limits on requests. */
export const UNLIMITED = Object.fromEntries(
  ['USER', 'USER_WRITE', 'IP', 'IP_UNAUTHENTICATED', 'FAILED_LOGIN'].map((name) => [
    `FEEDCTL_${name}_LIMIT`,
    '0',
  ]),
);
