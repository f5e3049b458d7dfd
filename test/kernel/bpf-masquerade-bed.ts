/** A node whose pods are masqueraded where they leave the pools. */
import { flowConstants, HopKind, HostSlot } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { namesOf, type Pod, pods } from './bpf-flow-names.ts';
import { FlowNode } from './bpf-flow-node.ts';
import { type HostDevice, hostDevices } from './bpf-host-bed.ts';
import { NetBed } from './bpf-net-bed.ts';
import { addressBytes, type Version } from './classifier-bed.ts';

/** The port that masqueraded flows get: one alone, so that tests know it. */
export const NAT_PORT = 61_000;
export const { hopInPool, hopNatOutgoing } = flowConstants;

/** A NetBed whose uplinks have the node's address for pods; `router` is in a pool. */
export class MasqueradeBed extends NetBed {
  static override async create(): Promise<MasqueradeBed> {
    return await FlowNode.make((netns, object) => new MasqueradeBed(netns, object), {});
  }

  protected override async prepare(): Promise<void> {
    await super.prepare();
    this.hop(20, { kind: HopKind.stack, flags: hopInPool, ifindex: 0, slot: 0 });
    for (const version of [4, 6] as const) this.address(version, 'router', { class: 0, hop: 20 });
  }

  override async reset(): Promise<void> {
    await super.reset();
    for (const pod of pods) this.pod(pod, hopInPool | hopNatOutgoing);
    for (const device of hostDevices) this.masquerades(device);
    this.ports(NAT_PORT, NAT_PORT);
  }

  /** What the address of a pod says besides that it is one. */
  pod(pod: Pod, flags: number): void {
    const slot = pods.indexOf(pod) + 1;
    this.hop(slot, { kind: HopKind.pod, flags, ifindex: this.ifindexOf(pod), slot });
  }

  ports(natFirst: number, natLast: number): void {
    this.runState({ natFirst, natLast });
  }

  /** The ports of the node that records of a family name. */
  async portsOf(version: Version): Promise<number[]> {
    const found: number[] = [];
    const node = addressBytes(namesOf[version]['node'] ?? '').join();
    await this.patchRecords(version, ({ key }) => {
      for (const { address, port } of key.end) if (address.join() === node) found.push(port);
      return {};
    });
    return found;
  }

  /** Whether a device has an address for masqueraded flows: the node's. */
  masquerades(device: HostDevice, isSaid = true): void {
    const place = this.array('tortie_hosts').value(hostDevices.indexOf(device) + 1);
    const view = new DataView(place.buffer, place.byteOffset);
    const address = (version: 4 | 6) =>
      isSaid ? addressBytes(namesOf[version]['node'] ?? '') : new Uint8Array(version === 4 ? 4 : 16);
    HostSlot.write({ ...HostSlot.read(view), masquerade4: address(4), masquerade6: address(6) }, view);
  }
}
