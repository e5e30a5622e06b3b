export { Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr, Uart16550, UartRegister } from './uart-16550.js';
