import { isFeedctlError } from '../model/errors.ts';
import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';
import type { Condition } from './rollout.ts';

export const PAUSED_REPLICAS = 'autoscaling.keda.sh/paused-replicas';
const PAUSED = 'autoscaling.keda.sh/paused';
/** Annotations that pause KEDA, or one direction of its scaling. */
export const PAUSES: readonly string[] = [
  PAUSED_REPLICAS,
  PAUSED,
  `${PAUSED}-scale-in`,
  `${PAUSED}-scale-out`,
];
/** Values that KEDA parses as false. */
const FALSE = /^(?:0|f|F|false|False|FALSE)$/;

interface Autoscaler extends KubeObject {
  readonly spec: {
    scaleTargetRef: { kind?: string; name: string };
    /** Fields of an HPA. */
    minReplicas?: number;
    maxReplicas?: number;
    /** Fields of a ScaledObject. */
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
  /** Name of the HPA: this one, or the one that KEDA created. */
  readonly hpa: string;
  /** Name of the scaled deployment. */
  readonly target: string;
  readonly min: number;
  readonly max: number;
  /** Pods now, and pods that the HPA wants; null without an HPA. */
  readonly current: number | null;
  readonly desired: number | null;
  /** Number of pods during the pause; null if the pause names none. */
  readonly pausedAt: number | null;
  readonly paused: boolean;
  /** Messages of failing conditions. */
  readonly problems: readonly string[];
}

export const scaledObjectsPath = (namespace: string): string =>
  `/apis/keda.sh/v1alpha1/namespaces/${namespace}/scaledobjects`;
export const hpasPath = (namespace: string): string =>
  `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers`;

/** Returns the ScaledObjects of a namespace, and the HPAs that KEDA has not created. */
export async function listAutoscalers(kubernetes: Kubernetes, namespace: string): Promise<AutoscalerState[]> {
  const scaled = await listScaledObjects(kubernetes, namespace);
  const ofKeda = new Set(scaled.map(hpaNameOf));
  const hpas = await kubernetes.list<Autoscaler>(hpasPath(namespace));
  const statusOf = (name: string) => hpas.find(({ metadata }) => metadata.name === name)?.status;
  return [
    ...scaled.map((one) => scaledObjectState(one, statusOf(hpaNameOf(one)))),
    ...hpas.filter(({ metadata }) => !ofKeda.has(metadata.name)).map(hpaState),
  ];
}

const hpaNameOf = ({ metadata, status }: Autoscaler): string =>
  status?.hpaName ?? `keda-hpa-${metadata.name}`;

/** Returns none if KEDA is not installed. */
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
    paused: at !== undefined || !FALSE.test(metadata.annotations?.[PAUSED] ?? 'false'),
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
