import { bpfAddon } from './bpf-addon.ts';
import type { BpfMap } from './bpf-map.ts';
import { SourceEventStream, type EventSource, type EventStream } from './event-stream.ts';

/**
 * The records that programs put into a ring buffer (BPF_MAP_TYPE_RINGBUF), in their order, from the oldest unread one on, for
 * `for await`. Each turn of the event loop takes at most some hundred KiB. What doesn't fit while nobody reads is lost where it was made: only
 * the program that was refused room can count that. One reader for a ring: the place up to which it is read is the map's, not the reader's.
 * What was read and not yet asked for is lost when the stream is closed. Throws `EINVAL` for any other map.
 */
export function openBpfRing(map: BpfMap): EventStream<Uint8Array> {
  return new SourceEventStream(new Records(new (bpfAddon().BpfRing)(map.fd)));
}

/** Cuts what is read into records. */
class Records implements EventSource<Uint8Array> {
  readonly #ring: InstanceType<ReturnType<typeof bpfAddon>['BpfRing']>;

  constructor(ring: InstanceType<ReturnType<typeof bpfAddon>['BpfRing']>) {
    this.#ring = ring;
  }

  wait(callback: () => void): void {
    this.#ring.wait(callback);
  }

  read(): readonly Uint8Array[] {
    const { bytes, lengths } = this.#ring.read();
    let position = 0;
    return Array.from(lengths, (length) => bytes.subarray(position, (position += length)));
  }

  close(): void {
    this.#ring.close();
  }
}
