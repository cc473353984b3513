// The simulated CUDA runtime: streams, graphs and events. Work runs when it is submitted; a stream
// under capture records it instead, and refuses what a GPU would refuse during a capture.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "sim/runtime_state.h"

using Work = std::function<cudaError_t()>;

struct CUgraph_st {
    std::vector<Work> nodes;
};
struct CUgraphExec_st {
    std::vector<Work> nodes;
};
struct CUstream_st {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id captured_by;
    std::vector<Work> recorded;
};
struct CUevent_st {
    std::chrono::steady_clock::time_point recorded;
};

namespace tarpon::sim {

cudaError_t run_on(cudaStream_t stream, Work work) {
    if (!stream || stream->capture == cudaStreamCaptureStatusNone) return work();
    if (stream->capture == cudaStreamCaptureStatusInvalidated) {
        return cudaErrorStreamCaptureInvalidated;
    }
    stream->recorded.push_back(std::move(work));
    return cudaSuccess;
}

cudaError_t check_not_capturing() {
    cudaError_t result = cudaSuccess;
    for (cudaStream_t stream : runtime().capturing) {
        const bool concerned = stream->mode == cudaStreamCaptureModeGlobal ||
                               (stream->mode == cudaStreamCaptureModeThreadLocal &&
                                stream->captured_by == std::this_thread::get_id());
        if (!concerned) continue;
        stream->capture = cudaStreamCaptureStatusInvalidated;
        result = cudaErrorStreamCaptureUnsupported;
    }
    return result;
}

}  // namespace tarpon::sim

using namespace tarpon::sim;

namespace {

// A wait for a stream: fails, and spoils the capture, if the stream is being captured.
cudaError_t wait_for(cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (stream && stream->capture != cudaStreamCaptureStatusNone) {
        stream->capture = cudaStreamCaptureStatusInvalidated;
        return set_last(cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}

void end_capture(cudaStream_t stream) {
    stream->capture = cudaStreamCaptureStatusNone;
    std::erase(runtime().capturing, stream);
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!stream || flags > cudaStreamNonBlocking) return set_last(cudaErrorInvalidValue);
    *stream = new CUstream_st;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (!stream) return set_last(cudaErrorInvalidResourceHandle);
    end_capture(stream);
    delete stream;
    return check_usable();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return wait_for(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return wait_for(stream);
}

cudaError_t cudaDeviceSynchronize() {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_not_capturing()) return set_last(error);
    return check_usable();
}

cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t) {
    return cudaMalloc(address, bytes);
}

cudaError_t cudaFreeAsync(void *address, cudaStream_t) {
    return cudaFree(address);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
    return set_last(event ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    Guard guard(runtime().mutex);
    *status = stream ? stream->capture : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!stream) return set_last(cudaErrorStreamCaptureUnsupported);  // the legacy default stream
    if (stream->capture != cudaStreamCaptureStatusNone) return set_last(cudaErrorIllegalState);
    stream->capture = cudaStreamCaptureStatusActive;
    stream->mode = mode;
    stream->captured_by = std::this_thread::get_id();
    stream->recorded.clear();
    runtime().capturing.push_back(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!stream || stream->capture == cudaStreamCaptureStatusNone) {
        return set_last(cudaErrorIllegalState);
    }
    const bool valid = stream->capture == cudaStreamCaptureStatusActive;
    end_capture(stream);
    *graph = valid ? new CUgraph_st{std::move(stream->recorded)} : nullptr;
    return set_last(valid ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph,
                                 unsigned long long) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!graph || !executable) return set_last(cudaErrorInvalidValue);
    *executable = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!executable) return set_last(cudaErrorInvalidValue);
    for (const Work &node : executable->nodes) {
        if (cudaError_t error = run_on(stream, node)) return set_last(error);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    if (!graph || nodes || !count) return set_last(cudaErrorInvalidValue);
    *count = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (!graph) return set_last(cudaErrorInvalidValue);
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    if (!executable) return set_last(cudaErrorInvalidValue);
    delete executable;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (!event) return set_last(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (!event) return set_last(cudaErrorInvalidResourceHandle);
    return set_last(run_on(stream, [event] {
        event->recorded = std::chrono::steady_clock::now();
        return cudaSuccess;
    }));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Guard guard(runtime().mutex);
    if (!event) return set_last(cudaErrorInvalidResourceHandle);
    return check_usable();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    if (!start || !end) return set_last(cudaErrorInvalidResourceHandle);
    *milliseconds =
        std::chrono::duration<float, std::milli>(end->recorded - start->recorded).count();
    return cudaSuccess;
}
