import { bpfGrace, type MappedArray } from '#native/bpf.ts';
import type { HostInfo } from '../messages.ts';
import { AfterFlush } from './after-flush.ts';
import { flowConstants, RunState } from './bpf-types.gen.ts';
import { Classifier } from './classifier/classifier.ts';
import { KernelMaps } from './classifier/kernel-maps.ts';
import { Hops } from './hops.ts';
import { Failsafes } from './hosts/failsafe.ts';
import { HostSlots } from './hosts/host-slots.ts';
import { addressBytes } from './keys.ts';
import type { NatPorts } from './nat-ports.ts';
import type { Handover } from './loaded-flows.ts';
import type { EndpointPrograms } from './programs.ts';
import { settingOf } from './sizes.ts';
import { SlotAddresses } from './slot-addresses.ts';
import { SlotTable } from './slot-table.ts';

/** What concerns all devices when there are host endpoints. */
export interface HostsOfNode {
  readonly forwardsIn: boolean;
  readonly forwardsOut: boolean;
  readonly podsHost: number;
}

/**
 * The maps that this agent fills by itself, and who fills them: policy, slots of pods, next hops, what changes while programs run. Empty in
 * the beginning. The handles of the programs with which the maps were made must stay open as long as this.
 */
export class NodeMaps implements Disposable {
  readonly classifier: Classifier;
  readonly slots: SlotTable;
  readonly hops: Hops;
  readonly hostSlots: HostSlots;
  readonly failsafes: Failsafes;
  readonly #afterFlush = new AfterFlush();
  readonly #grace: () => Promise<void>;
  readonly #run: MappedArray;
  /** What `tortie_run` says of this node. */
  #node: HostInfo | undefined;
  readonly #handles: DisposableStack;

  /** `programs`: fresh ones. */
  constructor(programs: EndpointPrograms, grace: () => Promise<void> = bpfGrace) {
    using handles = new DisposableStack();
    const mapped = (name: string): MappedArray => handles.use(programs.map(name).mmap());
    this.#grace = grace;
    this.classifier = new Classifier(handles.use(new KernelMaps(programs.map, settingOf)));
    const pods = mapped('tortie_pods');
    this.slots = new SlotTable({ slots: programs.map('tortie_slots'), pods }, this.#afterFlush);
    this.hops = new Hops(
      mapped('tortie_hops'),
      (net, hop) => this.classifier.setHop(net, hop),
      new SlotAddresses(pods),
      this.#afterFlush,
    );
    this.hostSlots = new HostSlots(
      { slots: programs.map('tortie_hslots'), hosts: mapped('tortie_hosts') },
      this.#afterFlush,
    );
    this.failsafes = new Failsafes({ 4: programs.map('tortie_failsafe4'), 6: programs.map('tortie_failsafe6') });
    this.#run = mapped('tortie_run');
    this.#handles = handles.move();
  }

  /** This node's addresses, for a pod that is its own backend. */
  setNode(node: HostInfo): void {
    if (node === this.#node) return;
    const run = this.#run.value(0);
    run.set(addressBytes(node.ipv4, 4), RunState.offsets.host4);
    run.set(addressBytes(node.ipv6, 16), RunState.offsets.host6);
    this.#node = node;
  }

  /** The ports that masqueraded flows get; undefined: netfilter masquerades all. */
  setNatPorts(ports: NatPorts | undefined): void {
    const { natFirst, natLast } = RunState.offsets;
    const is = { first: this.#run.load32(0, natFirst), last: this.#run.load32(0, natLast) };
    // Without a range, be it for a moment, new flows are netfilter's to masquerade as long as they live.
    if (is.first === (ports?.first ?? 0) && is.last === (ports?.last ?? 0)) return;
    // Nobody is to see the end of one range with the beginning of another.
    this.#run.store32(0, natFirst, 0);
    this.#run.store32(0, natLast, ports?.last ?? 0);
    this.#run.store32(0, natFirst, ports?.first ?? 0);
  }

  /** Whether some host endpoint has policy for what is forwarded, by direction; the slot that pods' devices have, too (0: none). */
  setHosts({ forwardsIn, forwardsOut, podsHost }: HostsOfNode): void {
    const { forwardIngress, forwardEgress, podsHost: podsHostAt } = RunState.offsets;
    this.#run.store32(0, podsHostAt, podsHost);
    this.#run.store32(0, forwardIngress, forwardsIn ? 1 : 0);
    this.#run.store32(0, forwardEgress, forwardsOut ? 1 : 0);
  }

  /**
   * While flows are being taken over, packets in the midst of one that isn't there yet go to the stack, where it is known; while they are handed
   * over, TCP to a Service in the midst of one that isn't there any more is dropped in silence, and said again.
   */
  setHandover(handover: Handover | undefined): void {
    const { handoverIn, handoverOut } = flowConstants;
    this.#run.store32(
      0,
      RunState.offsets.adopting,
      handover === undefined ? 0 : handover === 'in' ? handoverIn : handoverOut,
    );
  }

  /** Whether programs tell of flows. */
  setEvents(isOn: boolean): void {
    this.#run.store32(0, RunState.offsets.events, isOn ? 1 : 0);
  }

  /** How many events found no room, since the start (32 bits). */
  get eventsLost(): number {
    return this.#run.load32(0, RunState.offsets.eventsLost);
  }

  /** Brings policy and hops into force. Throws what the maps say; the next call goes on where this one failed. */
  async flush(): Promise<void> {
    const leaving = this.#afterFlush.beginFlush();
    try {
      await this.classifier.flush();
    } catch (error) {
      leaving.putBack();
      throw error;
    }
    leaving.done();
  }

  /** Waits for programs that may still follow what flushes have replaced, and frees it. Flushes may come meanwhile. */
  async settle(): Promise<void> {
    await this.classifier.settle();
    await this.#afterFlush.settle(this.#grace);
  }

  [Symbol.dispose](): void {
    this.#handles.dispose();
  }
}
