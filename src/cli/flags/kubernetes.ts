import { Flags } from '@oclif/core';

/** Where in Kubernetes. */
export const kubeFlags = {
  namespace: Flags.string({
    description: 'namespace in Kubernetes (FEEDCTL_NAMESPACE); that of the kubeconfig’s context, or feedctl',
  }),
  'kube-context': Flags.string({
    description: 'context of the kubeconfig (FEEDCTL_KUBE_CONTEXT); its current one',
  }),
};

export const timeoutFlag = Flags.integer({ description: 'seconds to wait at most', default: 300, min: 1 });
export const waitFlag = Flags.boolean({
  description: 'wait until it has rolled out',
  default: true,
  allowNo: true,
});

/** What `cluster plan` and `cluster apply` take. */
export const manifestFlags = {
  ...kubeFlags,
  namespace: Flags.string({
    description: 'namespace in Kubernetes (FEEDCTL_NAMESPACE), instead of the one in the manifests',
  }),
  image: Flags.string({
    description: 'image of feedctl, instead of the one in the manifests',
    helpValue: '<name:tag>',
  }),
  'force-conflicts': Flags.boolean({
    description: 'take over fields that another manager owns',
    default: false,
  }),
};
