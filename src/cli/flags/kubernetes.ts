import { Flags } from '@oclif/core';
import { durationFlag } from './durations.ts';

/** Flags that select a cluster and a namespace of Kubernetes. */
export const kubeFlags = {
  namespace: Flags.string({
    description: 'namespace in Kubernetes (FEEDCTL_NAMESPACE); default: that of the kubeconfig, or feedctl',
  }),
  'kube-context': Flags.string({
    description: 'context of the kubeconfig (FEEDCTL_KUBE_CONTEXT); default: its current one',
  }),
};

export const timeoutFlag = durationFlag({ unit: 's', description: 'maximum wait', default: 300, min: 1 });
export const waitFlag = Flags.boolean({
  description: 'wait for the end of the rollout',
  default: true,
  allowNo: true,
});

/** Flags of `cluster plan` and `cluster apply`. */
export const manifestFlags = {
  ...kubeFlags,
  namespace: Flags.string({
    description: 'namespace in Kubernetes (FEEDCTL_NAMESPACE); default: that of the manifests',
  }),
  image: Flags.string({
    description: 'image of feedctl; default: that of the manifests',
    helpValue: '<name:tag>',
  }),
  'force-conflicts': Flags.boolean({
    description: 'overwrite fields that another manager owns',
    default: false,
  }),
};
