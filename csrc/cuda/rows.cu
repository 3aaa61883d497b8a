// The kernels around scans, which know no cell.
#include "advance.cuh"
#include "copy_rows.cuh"
#include "kernels.h"
#include "lay_out.cuh"

namespace fastrnn {
namespace gpu {

const RowKernels row_kernels[] = {
    {copy_rows<float>, lay_out_steps, advance},
    {copy_rows<double>, lay_out_steps, advance},
    {copy_rows<Half>, lay_out_steps, advance},
    {copy_rows<Bfloat16>, lay_out_steps, advance},
};

}  // namespace gpu
}  // namespace fastrnn
