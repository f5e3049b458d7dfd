import type { DataplaneConfig, EndpointId, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type {
  HostEndpointInfo,
  PolicyId,
  PolicyInfo,
  ProfileId,
  ProfileInfo,
  SetId,
  SetType,
} from '#dataplanes/policy.ts';

/** A set as it was last announced. */
export interface SetView {
  readonly type: SetType;
  readonly members: ReadonlySet<string>;
  /** What it stands for, for people. */
  readonly about?: string;
}

/** What calc has told the dataplanes so far: the data that explanations and listings are made from. */
export interface PolicyView {
  config(): DataplaneConfig | undefined;
  set(id: SetId): SetView | undefined;
  sets(): Iterable<readonly [SetId, SetView]>;
  policy(id: PolicyId): PolicyInfo | undefined;
  profile(id: ProfileId): ProfileInfo | undefined;
  endpoint(id: EndpointId): WorkloadEndpointInfo | undefined;
  endpoints(): Iterable<readonly [EndpointId, WorkloadEndpointInfo]>;
  hostEndpoints(): Iterable<readonly [string, HostEndpointInfo]>;
}
