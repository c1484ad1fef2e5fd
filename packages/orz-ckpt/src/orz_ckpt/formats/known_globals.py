"""The names that pickles of checkpoints are allowed to call; none of them is ever looked up.

A pickle is a program: it names functions and calls them. Each name here is one that some framework's own writer puts
into a checkpoint and that does nothing but hold or rebuild data. Names are exact: a pattern over a module would let in
whatever that module imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_MODULE: Final = {
    # Python 3.11 to 3.14: object.__reduce_ex__, enum, datetime, pathlib, collections
    "builtins": "bool bytes complex dict float frozenset int list object range set slice str tuple type",
    "collections": "deque",
    "_io": "BytesIO",
    "argparse": "Namespace",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "enum": "Enum IntEnum StrEnum",
    "fractions": "Fraction",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "types": "SimpleNamespace",
    "typing": "Any Dict List Optional Tuple Union",
    "uuid": "UUID SafeUUID",
    # numpy 1.13 to 2.3: core/multiarray, random/_pickle.py
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct",
    "numpy._core.multiarray": "_reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.dtypes": "BoolDType BytesDType Float16DType Float32DType Float64DType Int8DType Int16DType Int32DType "
    "Int64DType ObjectDType StrDType UInt8DType UInt16DType UInt32DType UInt64DType",
    "numpy.random": "RandomState Generator",
    "numpy.random._generator": "Generator",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64 PCG64DXSM",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "numpy.random.mtrand": "RandomState",
    # torch 1.6 to 2.13: _utils.py, _tensor.py, serialization.py, storage.py; dtypes are constants
    "torch": "Generator Size Tensor device dtype memory_format qscheme "
    "bfloat16 bool complex128 complex32 complex64 float16 float32 float64 float4_e2m1fn_x2 float8_e4m3fn "
    "float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu int16 int32 int64 int8 uint16 uint32 uint64 uint8 "
    "quint8 qint8 qint32 quint4x2 quint2x4 per_tensor_affine per_tensor_symmetric per_channel_affine "
    "per_channel_symmetric per_channel_affine_float_qparams strided sparse_coo sparse_csr "
    "contiguous_format preserve_format channels_last channels_last_3d",
    "torch._C": "Generator",
    "torch._utils": "_rebuild_meta_tensor_no_storage _rebuild_wrapper_subclass",
    "torch.nn.parameter": "Buffer Parameter UninitializedBuffer UninitializedParameter",
    "torch.serialization": "_get_layout",
    "torch.torch_version": "TorchVersion",
    # torch 2.0 to 2.13: optim
    "torch.optim": "Adam AdamW Adagrad SGD RMSprop",
    "torch.optim.adam": "Adam",
    "torch.optim.adamw": "AdamW",
    "torch.optim.adagrad": "Adagrad",
    "torch.optim.rmsprop": "RMSprop",
    "torch.optim.sgd": "SGD",
    "torch.optim.optimizer": "Optimizer",
    "torch.optim.lr_scheduler": "ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts LambdaLR LinearLR "
    "LRScheduler MultiStepLR OneCycleLR PolynomialLR ReduceLROnPlateau SequentialLR StepLR",
    # torch 2.0 to 2.13: DTensor, ShardedTensor, the metadata of distributed checkpoints
    "torch.distributed.tensor": "DTensor DeviceMesh Partial Placement Replicate Shard",
    "torch.distributed.tensor._api": "DTensor",
    "torch.distributed.tensor._dtensor_spec": "DTensorSpec ShardOrderEntry TensorMeta",
    "torch.distributed.tensor.placement_types": "DTensorSpec Partial Placement Replicate Shard TensorMeta _MaskPartial "
    "_Partial _StridedShard",
    "torch.distributed._tensor": "DTensor DeviceMesh Partial Replicate Shard",
    "torch.distributed._tensor.api": "DTensor",
    "torch.distributed._tensor._dtensor_spec": "DTensorSpec TensorMeta",
    "torch.distributed._tensor.device_mesh": "DeviceMesh",
    "torch.distributed._tensor.placement_types": "DTensorSpec Partial Replicate Shard TensorMeta _Partial "
    "_StridedShard",
    "torch.distributed._mesh_layout": "_FlatLayout _MeshLayout",
    "torch.distributed.device_mesh": "DeviceMesh _MeshEnv",
    "torch.distributed._shard.metadata": "ShardMetadata",
    "torch.distributed._shard.sharded_tensor.api": "ShardedTensor ShardedTensor.ProcessGroupState",
    "torch.distributed._shard.sharded_tensor.metadata": "MEM_FORMAT_ENCODING ShardedTensorMetadata TensorProperties",
    "torch.distributed._shard.sharded_tensor.shard": "Shard",
    "torch.distributed._shard.sharding_spec.api": "DevicePlacementSpec EnumerableShardingSpec",
    "torch.distributed._shard.sharding_spec.chunk_sharding_spec": "ChunkShardingSpec",
    "torch.distributed.remote_device": "_remote_device",
    "torch.distributed.checkpoint.metadata": "BytesStorageMetadata ChunkStorageMetadata Metadata MetadataIndex "
    "StorageMeta TensorProperties TensorStorageMetadata _MEM_FORMAT_ENCODING",
    "torch.distributed.checkpoint.filesystem": "_StorageInfo",
    # deepspeed 0.9 to 0.19.8: runtime/fp16/loss_scaler.py, utils/tensor_fragment.py, runtime/zero/config.py
    "deepspeed.runtime.fp16.loss_scaler": "DynamicLossScaler LossScaler LossScalerBase "
    "LossScaleConfig LossScaleProfile",
    "deepspeed.utils.tensor_fragment": "fragment_address tensor_fragment",
    "deepspeed.runtime.zero.config": "DeepSpeedZeroConfig",
    "deepspeed.runtime.zero.offload_config": "DeepSpeedZeroOffloadOptimizerConfig DeepSpeedZeroOffloadParamConfig "
    "OffloadDeviceEnum",
    "deepspeed.runtime.lr_schedules": "LRRangeTest OneCycle WarmupCosineLR WarmupDecayLR WarmupLR",
    # omegaconf 2.1 to 2.3
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode InterpolationResultNode PathNode "
    "StringNode",
    # transformers 4.30 to 5.19, accelerate 0.20 to 1.x, trl: training_args.bin of every Trainer
    "transformers.training_args": "OptimizerNames TrainingArguments",
    "transformers.training_args_seq2seq": "Seq2SeqTrainingArguments",
    "transformers.trainer_utils": "EvaluationStrategy FSDPOption HubStrategy IntervalStrategy SaveStrategy "
    "SchedulerType",
    "transformers.debug_utils": "DebugOption",
    "transformers.trainer_pt_utils": "AcceleratorConfig",
    "transformers.integrations.deepspeed": "HfDeepSpeedConfig HfTrainerDeepSpeedConfig",
    "transformers.deepspeed": "HfDeepSpeedConfig HfTrainerDeepSpeedConfig",
    "accelerate.state": "AcceleratorState PartialState",
    "accelerate.utils.dataclasses": "DeepSpeedPlugin DistributedType DynamoBackend FullyShardedDataParallelPlugin "
    "GradientAccumulationPlugin",
    "trl.trainer.dpo_config": "DPOConfig",
    "trl.trainer.grpo_config": "GRPOConfig",
    "trl.trainer.sft_config": "SFTConfig",
    "peft.utils.peft_types": "PeftType TaskType",
}


def _names() -> Iterator[str]:
    for module, names in _BY_MODULE.items():
        for name in names.split():
            yield f"{module}.{name}"


KNOWN: Final = frozenset(_names())
"""Module and name of everything that may be called and then becomes an `Inert`."""
