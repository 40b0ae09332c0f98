import { isFeedctlError } from '../model/errors.ts';
import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';
import type { Condition } from './rollout.ts';

export const PAUSED_REPLICAS = 'autoscaling.keda.sh/paused-replicas';
const PAUSED = 'autoscaling.keda.sh/paused';
/** Every way in which KEDA can be told to stand still, or half still. */
export const PAUSES: readonly string[] = [
  PAUSED_REPLICAS,
  PAUSED,
  `${PAUSED}-scale-in`,
  `${PAUSED}-scale-out`,
];
/** What KEDA takes for no. */
const NOT_TRUE = /^(?:0|f|F|false|False|FALSE)$/;

interface Autoscaler extends KubeObject {
  readonly spec: {
    scaleTargetRef: { kind?: string; name: string };
    /** Of an HPA. */
    minReplicas?: number;
    maxReplicas?: number;
    /** Of a ScaledObject. */
    minReplicaCount?: number;
    maxReplicaCount?: number;
  };
  readonly status?: {
    conditions?: Condition[];
    currentReplicas?: number;
    desiredReplicas?: number;
    hpaName?: string;
  };
}

export interface AutoscalerState {
  readonly kind: 'ScaledObject' | 'HorizontalPodAutoscaler';
  readonly name: string;
  /** The HPA: itself, or the one that KEDA has made of it. */
  readonly hpa: string;
  /** The deployment that it scales. */
  readonly target: string;
  readonly min: number;
  readonly max: number;
  /** Of an HPA: pods now, and as it wants them. */
  readonly current: number | null;
  readonly desired: number | null;
  /** The number of pods at which it stands while it is paused. */
  readonly pausedAt: number | null;
  readonly paused: boolean;
  /** Conditions that are not as they should be. */
  readonly problems: readonly string[];
}

export const scaledObjectsPath = (namespace: string): string =>
  `/apis/keda.sh/v1alpha1/namespaces/${namespace}/scaledobjects`;
export const hpasPath = (namespace: string): string =>
  `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers`;

/** Everything that scales deployments there. An HPA that a ScaledObject has made is part of that one. */
export async function listAutoscalers(kubernetes: Kubernetes, namespace: string): Promise<AutoscalerState[]> {
  const scaled = await listScaledObjects(kubernetes, namespace);
  const made = new Set(scaled.map(hpaNameOf));
  const hpas = await kubernetes.list<Autoscaler>(hpasPath(namespace));
  const of = (name: string) => hpas.find(({ metadata }) => metadata.name === name)?.status;
  return [
    ...scaled.map((one) => scaledObjectState(one, of(hpaNameOf(one)))),
    ...hpas.filter(({ metadata }) => !made.has(metadata.name)).map(hpaState),
  ];
}

const hpaNameOf = ({ metadata, status }: Autoscaler): string =>
  status?.hpaName ?? `keda-hpa-${metadata.name}`;

/** None where KEDA is not installed. */
async function listScaledObjects(kubernetes: Kubernetes, namespace: string): Promise<Autoscaler[]> {
  try {
    return await kubernetes.list<Autoscaler>(scaledObjectsPath(namespace));
  } catch (error) {
    if (isFeedctlError(error, 'KUBE_NOT_FOUND')) return [];
    throw error;
  }
}

function scaledObjectState(one: Autoscaler, hpa: Autoscaler['status']): AutoscalerState {
  const { metadata, spec, status } = one;
  const at = metadata.annotations?.[PAUSED_REPLICAS];
  const problems = (status?.conditions ?? [])
    .filter(
      ({ type, status: is }) => (type === 'Ready' && is !== 'True') || (type === 'Fallback' && is === 'True'),
    )
    .map(
      ({ type, reason, message }) => `${type === 'Ready' ? 'not ready' : 'fallback'}: ${message || reason}`,
    );
  return {
    kind: 'ScaledObject',
    name: metadata.name,
    hpa: hpaNameOf(one),
    target: spec.scaleTargetRef.name,
    min: spec.minReplicaCount ?? 0,
    max: spec.maxReplicaCount ?? 100,
    current: hpa?.currentReplicas ?? null,
    desired: hpa?.desiredReplicas ?? null,
    pausedAt: at === undefined ? null : Number(at),
    paused: at !== undefined || !NOT_TRUE.test(metadata.annotations?.[PAUSED] ?? 'false'),
    problems,
  };
}

function hpaState({ metadata, spec, status }: Autoscaler): AutoscalerState {
  const problems = (status?.conditions ?? [])
    .filter(({ type, status: is }) => (type === 'AbleToScale' || type === 'ScalingActive') && is === 'False')
    .map(({ reason, message }) => message || reason || '');
  return {
    kind: 'HorizontalPodAutoscaler',
    name: metadata.name,
    hpa: metadata.name,
    target: spec.scaleTargetRef.name,
    min: spec.minReplicas ?? 1,
    max: spec.maxReplicas ?? 1,
    current: status?.currentReplicas ?? null,
    desired: status?.desiredReplicas ?? null,
    pausedAt: null,
    paused: false,
    problems,
  };
}
