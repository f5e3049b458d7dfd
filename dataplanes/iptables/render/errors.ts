/** The renderer can't say this in iptables rules. */
export class RenderError extends Error {
  /** `E_MARK_BITS`: markMask is too small. `E_DEVICE_NAME`: a device's name that iptables would take for something else. */
  readonly code: 'E_MARK_BITS' | 'E_DEVICE_NAME';

  constructor(code: RenderError['code'], message: string) {
    super(message);
    this.name = 'RenderError';
    this.code = code;
  }
}
